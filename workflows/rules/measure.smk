"""Cells: one job measures a bundle of seeds, those of them that have no current record."""


# Records and resume state are not declared: Snakemake deletes the declared outputs of a job that was killed.
rule measure:
    input:
        data_of,
    output:
        "results/bundles/{scale}/{paper}/{bundle}.json",
    log:
        "logs/measure/{scale}/{paper}/{bundle}.log",
    benchmark:
        "logs/measure/{scale}/{paper}/{bundle}.tsv"
    priority: long_first
    conda:
        "../envs/retable.yml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        disk_mb=1000,
        runtime=minutes,
        cpus_per_task=processors,
        gpu=1 if WORKSPACE.config.device == "cuda" else 0,
    message:
        "Measuring {wildcards.paper}, {wildcards.scale} scale: {wildcards.bundle}"
    script:
        "../scripts/measure.py"


rule verify:
    log:
        "logs/verify.log",
    localrule: True
    conda:
        "../envs/retable.yml"
    params:
        python=sys.executable,
        selection=selection(),
    shell:
        "{params.python} -m retable verify {params.selection} 2>&1 | tee {log}"


rule preflight:
    log:
        "logs/preflight.log",
    localrule: True
    conda:
        "../envs/retable.yml"
    params:
        python=sys.executable,
        selection=selection(),
    shell:
        "{params.python} -m retable estimate {params.selection} 2>&1 | tee {log}"


for paper in PAPERS:

    rule:
        name:
            f"paper_{paper}"
        input:
            markers(paper),
        localrule: True
