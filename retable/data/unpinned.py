"""Data sets that have no card yet, because nobody here could hash all of them: a card is made from your own download.

    python -m retable.data.unpinned cifar100 ~/cifar-100-binary.tar.gz    # writes datasets/cifar100.yaml
    python -m retable.data.unpinned glue-mrpc ~/mrpc    # a folder with the files, where they are no archive

The card pins what your files hold, so check them against their source by other means before; where a public list gives
a file's hash or a set's size, that is checked here. Without a card a data set cannot be planned, fetched or loaded;
with it, recipes that name the data set as `own` run it.
"""

import hashlib
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from retable.cards import Archive, CardError, DataFile, DatasetCard, Split, unknown
from retable.config import find_root
from retable.data.archive import extract
from retable.data.containers import DataError, content_sha256, count, split_sha256
from retable.data.readers import READERS
from retable.records import write_atomically

OGB = "Hu et al., Open Graph Benchmark: Datasets for machine learning on graphs, NeurIPS 2020, https://arxiv.org/abs/2005.00687"
GLUE = (
    "Wang et al., GLUE: A multi-task benchmark and analysis platform for natural language understanding, ICLR 2019, "
    "https://arxiv.org/abs/1804.07461"
)
GLUE_DATA = "https://dl.fbaipublicfiles.com/glue/data"
CIFAR_100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
"""
TU = "Morris et al., TUDataset: A collection of benchmark datasets for learning with graphs, 2020, https://arxiv.org/abs/2007.08663"


@dataclass(frozen=True)
class Known:
    """What is known of a data set without its bytes: everything of a card but sizes, counts and hashes."""

    title: str
    task: str
    homepage: str
    licence: str
    citation: str
    reader: str
    folder: str
    splits: dict[str, str]  # name -> note
    url: str = ""  # of an archive, of which
    members: tuple[str, ...] = ()  # are read,
    files: dict[str, str] = field(default_factory=dict)  # or path below the data folder -> address, of single files
    options: dict[str, str | bool | int | float] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)  # of files or archive, where a public list has them
    rows: int = 0  # known number of rows, 0 if it is not


def _ogb_members(folder: str, split: str, raw: Sequence[str]) -> tuple[str, ...]:
    parts = [f"split/{split}/{part}" for part in ("train", "valid", "test")]
    return tuple(f"{folder}/{name}.csv.gz" for name in [*(f"raw/{name}" for name in raw), *parts])


def _glue(task: str, citation: str, **fields: Any) -> Known:
    return Known(
        title=f"GLUE {task} dev",
        task="sentence_classification",
        homepage="https://gluebenchmark.com/tasks",
        licence="none stated",
        citation=f"{GLUE}; {citation}",
        reader="glue",
        folder="glue",
        splits={
            "official": "all training rows; the development rows, which papers report on, are the test part",
            "held-out": "as official, with a tenth of the training rows, drawn from the two names, to choose on",
            "subset-2000": "2,000 and 400 training rows drawn from the two names; the same test part",
        },
        options={"task": task},
        **fields,
    )


def _stl10(title: str, splits: dict[str, str], *extra: str) -> Known:
    labelled = ("train_X", "train_y", "test_X", "test_y")
    return Known(
        title=title,
        task="image_classification",
        homepage="https://cs.stanford.edu/~acoates/stl10/",
        licence="none stated (images of ImageNet: non-commercial research use)",
        citation=(
            "Coates, Ng and Lee, An analysis of single-layer networks in unsupervised feature learning, AISTATS 2011"
        ),
        reader="stl10_binary",
        url="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        folder="stl10",
        members=tuple(f"stl10_binary/{name}.bin" for name in (*labelled, *extra)),
        splits=splits,
        options={"classes": "airplane bird car cat deer dog horse monkey ship truck"},
    )


MOLECULE = ("edge", "edge-feat", "node-feat", "graph-label", "num-node-list", "num-edge-list")
KNOWN = {
    "ogbn-arxiv": Known(
        title="ogbn-arxiv",
        task="node_classification",
        homepage="https://ogb.stanford.edu/docs/nodeprop/#ogbn-arxiv",
        licence="ODC-BY",
        citation=OGB,
        reader="ogb_nodes",
        url="http://snap.stanford.edu/ogb/data/nodeproppred/arxiv.zip",
        folder="ogb",
        members=_ogb_members("arxiv", "time", ("edge", "node-feat", "node-label")),
        splits={"time": "by year of publication, from the archive"},
        options={"split": "time"},
    ),
    "ogbg-molhiv": Known(
        title="ogbg-molhiv",
        task="molecule_classification",
        homepage="https://ogb.stanford.edu/docs/graphprop/#ogbg-mol",
        licence="MIT",
        citation=OGB,
        reader="ogb_graphs",
        url="http://snap.stanford.edu/ogb/data/graphproppred/csv_mol_download/hiv.zip",
        folder="ogb",
        members=_ogb_members("hiv", "scaffold", MOLECULE),
        splits={"scaffold": "by molecular scaffold, from the archive"},
        options={"split": "scaffold"},
    ),
    "collab": Known(
        title="COLLAB",
        task="graph_classification",
        homepage="https://chrsmrrs.github.io/datasets/docs/datasets/",
        licence="none stated",
        citation=f"Yanardag and Vishwanathan, Deep graph kernels, KDD 2015; collected in {TU}",
        reader="tu",
        url="https://www.chrsmrrs.com/graphkerneldatasets/COLLAB.zip",
        folder="TUDataset",
        members=tuple(f"COLLAB/COLLAB_{part}.txt" for part in ("A", "graph_indicator", "graph_labels")),
        splits={"folds-10": "10 folds, stratified by class; order from the names of data set and split"},
    ),
    "glue-mrpc": _glue(
        "MRPC",
        "Dolan and Brockett, Automatically constructing a corpus of sentential paraphrases, IWP 2005",
        rows=3668 + 408,
        files={
            "glue/MRPC/msr_paraphrase_train.txt": "https://dl.fbaipublicfiles.com/senteval/senteval_data/msr_paraphrase_train.txt",
            "glue/MRPC/mrpc_dev_ids.tsv": f"{GLUE_DATA}/mrpc_dev_ids.tsv",
        },
        sha256={
            "msr_paraphrase_train.txt": "60a9b09084528f0673eedee2b69cb941920f0b8cd0eeccefc464a98768457f89",
            "mrpc_dev_ids.tsv": "971d7767d81b997fd9060ade0ec23c4fc31cbb226a55d1bd4a1bac474eb81dc7",
        },
    ),
    "glue-qqp": _glue(
        "QQP",
        "Iyer, Dandekar and Csernai, First Quora dataset release: Question pairs, 2017",
        rows=363_846 + 40_430,
        url=f"{GLUE_DATA}/QQP-clean.zip",
        members=("QQP/train.tsv", "QQP/dev.tsv"),
        sha256={"QQP-clean.zip": "40e7c862c04eb26ee04b67fd900e76c45c6ba8e6d8fab4f8f1f8072a1a3fbae0"},
    ),
    "glue-qnli": _glue(
        "QNLI",
        "Rajpurkar et al., SQuAD: 100,000+ questions for machine comprehension of text, EMNLP 2016",
        rows=104_743 + 5463,
        url=f"{GLUE_DATA}/QNLIv2.zip",
        members=("QNLI/train.tsv", "QNLI/dev.tsv"),
        sha256={"QNLIv2.zip": "e634e78627a29adaecd4f955359b22bf5e70f2cbd93b493f2d624138a0c0e5f5"},
    ),
    **{
        f"glue-mnli-{part}": _glue(
            f"MNLI-{part}",
            "Williams, Nangia and Bowman, A broad-coverage challenge corpus for sentence understanding, NAACL 2018",
            rows=392_702 + dev,
            url=f"{GLUE_DATA}/MNLI.zip",
            members=("MNLI/train.tsv", f"MNLI/dev_{name}.tsv"),
            sha256={"MNLI.zip": "e7c1d896d26ed6caf700110645df426cc2d8ebf02a5ab743d5a5c68ac1c83633"},
        )
        for part, name, dev in (("m", "matched", 9815), ("mm", "mismatched", 9832))
    },
    "code-alpaca": Known(
        title="HumanEval",  # what is reported on; CodeAlpaca is the training part
        task="problems",
        homepage="https://github.com/sahil280114/codealpaca",
        licence="CodeAlpaca: none stated for the data, which a commercial model wrote; HumanEval: MIT",
        citation="Chaudhary, Code Alpaca: An instruction-following LLaMA model for code generation, 2023; "
        "Chen et al., Evaluating large language models trained on code, 2021, https://arxiv.org/abs/2107.03374",
        reader="code_problems",
        folder="code-alpaca",
        splits={
            "official": "all of CodeAlpaca, none set aside to choose on; the problems of HumanEval",
            "subset-256": "256/32/64: drawn from the names of data set and split, test problems from HumanEval",
        },
        files={
            "code-alpaca/code_alpaca_20k.json": "https://raw.githubusercontent.com/sahil280114/codealpaca/master/data/code_alpaca_20k.json",
            "human-eval/HumanEval.jsonl.gz": "https://raw.githubusercontent.com/openai/human-eval/6d43fb980f9fee3c892a914eda09951f772ad10d/data/HumanEval.jsonl.gz",
        },
        sha256={"HumanEval.jsonl.gz": "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"},
    ),
    "cifar100": Known(
        title="CIFAR-100",
        task="image_classification",
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="none stated (the authors ask to cite their report)",
        citation="Krizhevsky, Learning multiple layers of features from tiny images, University of Toronto, 2009",
        reader="cifar_binary",
        url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        folder="cifar100",
        members=("cifar-100-binary/train.bin", "cifar-100-binary/test.bin"),
        splits={"official": "50,000 training and 10,000 test images; none are set aside for choosing"},
        options={"label_bytes": 2, "classes": " ".join(CIFAR_100.split())},
    ),
    "stl10": _stl10("STL-10", {"official": "5,000 training and 8,000 test images; the unlabelled ones are not read"}),
    "stl10-unlabelled": _stl10(
        "STL-10",
        {"with-unlabelled": "5,000 labelled and 100,000 unlabelled training images, 8,000 test images"},
        "unlabeled_X",
    ),
    "tiny-imagenet": Known(
        title="Tiny-ImageNet",
        task="image_classification",
        homepage="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        licence="none stated (images of ImageNet: non-commercial research use)",
        citation="Le and Yang, Tiny ImageNet visual recognition challenge, Stanford CS 231N, 2015",
        reader="tiny_imagenet",
        folder="tiny-imagenet",
        files={"tiny-imagenet/tiny-imagenet-200.zip": "http://cs231n.stanford.edu/tiny-imagenet-200.zip"},
        splits={"official": "100,000 training images; the 10,000 validation images are the test part"},
        options={"side": 64, "corrupt": "fatal"},
    ),
}


def card_of(name: str, source: Path) -> DatasetCard:
    """The card of a known data set with the sizes and hashes of your archive, or of the files in your folder.

    Raises CardError for an unknown name, DataError for files that are missing, damaged or not those of public lists.
    """
    if name not in KNOWN:
        raise CardError(unknown("data set without a card", name, list(KNOWN)))
    known = KNOWN[name]
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary)
        files = _single_files(name, known, source, raw) if known.files else _members(name, known, source, raw)
        card = DatasetCard(
            name=name,
            title=known.title,
            task=known.task,
            homepage=known.homepage,
            licence=known.licence,
            citation=known.citation,
            reader=known.reader,
            options=dict(known.options),
            files=files,
            counts={},
            content_sha256="0" * 64,
            splits={},
        )
        data = READERS[known.reader](card, raw)
        counts = count(data)
        if known.rows and counts["rows"] != known.rows:
            raise DataError(f"{source} holds {counts['rows']} rows of {name}, which is known to have {known.rows}")
        pinned = {
            "counts": counts,
            "content_sha256": content_sha256(data),
            "splits": {
                split: Split(sha256=split_sha256(data.splits[split]), note=note)
                for split, note in known.splits.items()
                if split in data.splits
            },
        }
    return card.model_copy(update=pinned)


def write_card(name: str, source: Path, root: Path) -> Path:
    """Write `datasets/<name>.yaml`; raises CardError where one is there already."""
    path = root / "datasets" / f"{name}.yaml"
    if path.exists():
        raise CardError(f"{path} is there already; a card that is pinned is not written over")
    fields = card_of(name, source).model_dump(exclude_none=True, exclude_defaults=True)
    write_atomically(path, yaml.safe_dump(fields, sort_keys=False, width=112, allow_unicode=True).encode())
    return path


def main(arguments: Sequence[str]) -> int:
    """`<name> <archive or folder>`; returns the exit status."""
    try:
        if len(arguments) != 2:
            raise CardError(f"expected a name ({', '.join(KNOWN)}) and the path of its archive, or of a folder")
        print(write_card(arguments[0], Path(arguments[1]), find_root(Path.cwd())))
    except (CardError, DataError) as error:
        print(f"retable: {error}", file=sys.stderr)
        return 2
    return 0


def _members(name: str, known: Known, archive: Path, raw: Path) -> list[DataFile]:
    """The members of an archive that are read, extracted below `raw`."""
    if not archive.is_file() or not (zipfile.is_zipfile(archive) or tarfile.is_tarfile(archive)):
        raise DataError(f"{archive} is no zip or tar archive; {name} is at {known.url}")
    kept = known.url.rsplit("/", 1)[1]
    origin = Archive(url=known.url, sha256=_checked(known, archive, kept), path=f"{known.folder}/{kept}")
    files = []
    for member in known.members:
        path = f"{known.folder}/{member}"
        target = raw / path
        target.parent.mkdir(parents=True, exist_ok=True)
        extract(archive, member, target, sys.maxsize - 1)
        size, digest = target.stat().st_size, _sha256(target)
        files.append(DataFile(path=path, bytes=size, sha256=digest, archive=origin, member=member))
    return files


def _single_files(name: str, known: Known, folder: Path, raw: Path) -> list[DataFile]:
    """Files that lie in `folder` by their last names, linked below `raw`; a single one may be given itself."""
    files = []
    if folder.is_file() and len(known.files) == 1:
        folder = folder.parent
    for path, url in known.files.items():
        source, target = folder.resolve() / Path(path).name, raw / path
        if not source.is_file():
            raise DataError(f"{folder} holds no {source.name}; {name} needs it from {url}")
        digest = _checked(known, source, source.name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source)
        files.append(DataFile(path=path, bytes=source.stat().st_size, sha256=digest, url=url))
    return files


def _checked(known: Known, file: Path, name: str) -> str:
    """The file's SHA-256, which must be the one that is known."""
    digest, expected = _sha256(file), known.sha256.get(name)
    if expected and digest != expected:
        raise DataError(
            f"{file} has sha256 {digest[:12]}, but {name} is known by {expected[:12]}: another file, or damaged"
        )
    return digest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
