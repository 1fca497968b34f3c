from retable import jobs

jobs.wandb(snakemake)
