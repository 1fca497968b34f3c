from retable import jobs

jobs.measure(snakemake)
