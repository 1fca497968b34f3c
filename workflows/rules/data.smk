"""Data sets: fetched where the workflow runs, since nodes of a cluster often see no network."""


rule download:
    output:
        "datasets/raw/.complete/{dataset}.json",
    log:
        "logs/download/{dataset}.log",
    benchmark:
        "logs/download/{dataset}.tsv"
    localrule: True
    conda:
        "../envs/retable.yml"
    threads: 1
    resources:
        mem_mb=1000,
        disk_mb=download_mb,
        runtime=120,
        gpu=0,
    params:
        files=card_hashes,
    message:
        "Fetching {wildcards.dataset}"
    script:
        "../scripts/download.py"


rule download_all:
    input:
        all_markers(),
    localrule: True
