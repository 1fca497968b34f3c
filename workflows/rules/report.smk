"""Pages, tables and figures: functions of the claims and of all records, those in results/published/ included."""


rule site:
    input:
        measured=markers(),
        cards=from_tree("methods/*/card.yaml", "methods/*/claims.csv", "methods/*/tuned/*.csv", "datasets/*.yaml"),
        outside=from_outside(),
        published=from_tree("results/published/*/*.jsonl", "results/published/looks.csv", "results/*.jsonl"),
        code=from_tree(
            "retable/report/**/*.*",
            "retable/verdicts.py",
            "retable/orders.py",
            "retable/rows.py",
            "retable/significance.py",
            "retable/frames.py",
        ),
    # A redraw takes over what did not change, so the site before must still be there.
    output:
        page=update("reports/site/index.html"),
        tables=report(
            update(directory("reports/site/tables")),
            patterns=["{paper}_{recipe}_{scale}.csv"],
            caption="../report/table.rst",
            category="Tables",
            subcategory="{scale}",
            labels={"paper": "{paper}", "recipe": "{recipe}"},
        ),
        figures=report(
            update(directory("reports/site/figures")),
            patterns=["{paper}_{recipe}_{scale}_{dataset}_{view}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{scale}",
            labels={"paper": "{paper}", "recipe": "{recipe}", "data set": "{dataset}", "view": "{view}"},
        ),
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


# Markers are named beside the page: Snakemake does not make a missing one again for a page that is there.
rule leaderboard:
    input:
        markers(),
        rules.site.output.page,
    localrule: True


rule wandb:
    input:
        measured=markers(),
    output:
        "results/wandb/{scale}.json",
    log:
        "logs/wandb/{scale}.log",
    benchmark:
        "logs/wandb/{scale}.tsv"
    localrule: True
    conda:
        "../envs/retable.yml"
    threads: 1
    resources:
        mem_mb=2000,
        disk_mb=1000,
        runtime=60,
        gpu=0,
    params:
        settings=WORKSPACE.config.wandb.model_dump(),
    message:
        "Replaying {wildcards.scale} runs to Weights & Biases"
    script:
        "../scripts/wandb.py"
