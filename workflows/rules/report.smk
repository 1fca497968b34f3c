"""Pages, tables and figures: functions of the claims and of all records, those in results/published/ included."""


rule site:
    input:
        cells=indices(),
    output:
        page="reports/site/index.html",
    log:
        "logs/site.log",
    benchmark:
        "logs/site.tsv"
    localrule: True
    conda:
        "../envs/retable.yml"
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=100,
        runtime=10,
        gpu=0,
    message:
        "Drawing tables, figures and pages"
    script:
        "../scripts/site.py"


rule leaderboard:
    input:
        rules.site.output,
    localrule: True
