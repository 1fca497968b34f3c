from retable import jobs

jobs.site(snakemake)
