"""Cells: one job measures all seeds of one cell that have no current record."""


# Records and resume state are not declared: Snakemake deletes the declared outputs of a job that was killed.
rule measure:
    input:
        data_of,
    output:
        f"results/{CELL}/cell.json",
    log:
        f"logs/measure/{CELL}.log",
    benchmark:
        f"logs/measure/{CELL}.tsv"
    conda:
        "../envs/retable.yml"
    threads: 1
    resources:
        mem_mb=memory_mb,
        disk_mb=1000,
        runtime=minutes,
        gpu=1 if WORKSPACE.config.device == "cuda" else 0,
    params:
        identity=identity,
        seeds=seeds,
    message:
        "Measuring {wildcards.paper}/{wildcards.recipe} on {wildcards.dataset}, {wildcards.scale} scale: {wildcards.cell}"
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
            indices(paper),
        localrule: True
