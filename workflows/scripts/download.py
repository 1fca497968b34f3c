from retable import jobs

jobs.download(snakemake)
