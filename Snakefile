"""The job graph: data sets are fetched, cells are measured, pages are drawn.

What runs is decided by the scale and the selection (`--config scale=demo|reduced|full papers=...`); `snakemake --list`
shows the targets.
"""

from snakemake.utils import min_version

min_version("9.0")


workdir: workflow.basedir


configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflows/report/workflow.rst"


include: "workflows/rules/common.smk"
include: "workflows/rules/data.smk"
include: "workflows/rules/measure.smk"
include: "workflows/rules/report.smk"


rule all:
    default_target: True
    input:
        markers(),
        rules.leaderboard.input,
        wandb_marker(),
    localrule: True


onstart:
    ask_by_what_there_is(workflow.executor_settings)
    PROGRESS.tell_now_and_then()


onsuccess:
    print(closing_line())
    end_with_failures()


onerror:
    print(failing_line(), file=sys.stderr)
