"""The published models: address, licence, reported accuracy. The import is quick."""

from __future__ import annotations

import difflib
from typing import NamedTuple

ADELAIDET, MMDETECTION = "adelaidet", "mmdetection"
PROGRAMS = {ADELAIDET: "AdelaiDet", MMDETECTION: "mmdetection"}
LICENCES = {ADELAIDET: "non-commercial use only", MMDETECTION: "Apache-2.0"}
FREE = ("Apache-2.0", "MIT", "BSD", "CC0", "CC BY 4.0")  # licences that allow commercial use
HUB = "https://huggingface.co"
CONDINST_HUB, BOXINST_HUB = "tianzhi/AdelaiDet-CondInst", "tianzhi/AdelaiDet-BoxInst"
BOXED_HUB = "ZjuCv/AdelaiDet"
MIRRORS = "LibreYOLO"  # owner of the copies of RTMDet-Ins on the Hugging Face hub
OPENMMLAB = "https://download.openmmlab.com/mmdetection/v3.0"
OPENMMLAB_2 = "https://download.openmmlab.com/mmdetection/v2.0"
RTMDET_INS = "rtmdet-ins"


def commercial_use(licence: str) -> str:
    """Return whether a licence allows commercial use: yes, no or unknown."""
    if "non-commercial" in licence.lower() or "-nc" in licence.lower():
        return "no"
    return "yes" if licence.startswith(FREE) else "unknown"


class Mirror(NamedTuple):
    """A copy of a published model in another file. place, file: see `Checkpoint`."""

    place: str
    file: str


class Checkpoint(NamedTuple):
    """One published file.

    name: the name that users give, program/title. place: a repository on the Hugging Face hub, or the https address of
    a folder. file: the file name in `place`. sha256: the digest, or its beginning; empty if unknown. box_ap, mask_ap:
    percent on COCO val2017, as the publisher reports them; box_ap is None if it reports none. mirrors: copies of the
    model, for times when `place` does not answer; their digests are unknown. alias: a short name, which is that of its
    recipe, too.
    """

    name: str
    place: str
    file: str
    sha256: str
    box_ap: float | None
    mask_ap: float
    mirrors: tuple[Mirror, ...] = ()
    alias: str = ""

    @property
    def program(self) -> str:
        """The program that wrote the file: a key of PROGRAMS."""
        return self.name.partition("/")[0]

    @property
    def title(self) -> str:
        """The name without the program."""
        return self.name.partition("/")[2]

    @property
    def on_hub(self) -> bool:
        """Return whether the file is on the Hugging Face hub."""
        return not self.place.startswith("https://")

    @property
    def kept_as(self) -> str:
        """The file name in torch's cache of a file that was downloaded by hand. Names on the hub may be too short."""
        return f"{self.title}.pth" if self.on_hub else self.file

    @property
    def address(self) -> str:
        """Address to download the file by hand."""
        return f"{HUB}/{self.place}/resolve/main/{self.file}" if self.on_hub else f"{self.place}/{self.file}"

    @property
    def copies(self) -> tuple[Checkpoint, ...]:
        """The same model at each of its places, in the order in which they are asked."""
        mirrors = (self._replace(place=place, file=file, sha256="", mirrors=()) for place, file in self.mirrors)
        return (self, *mirrors)

    def copy_of(self, file: str) -> Checkpoint:
        """The place that has a file of this name; the first place if none has."""
        return next((copy for copy in self.copies if copy.file == file), self)

    @property
    def short(self) -> str:
        """The shortest name of the model."""
        return self.alias or self.name

    @property
    def recipe(self) -> str:
        """Name of the recipe for this model."""
        if self.alias:
            return self.alias
        if self.program == MMDETECTION:
            family, backbone = self.title.split("_")[:2]
            return f"mmdet-{family}-{backbone}-1x"
        return self.title.lower().replace("_ms", "").replace("_r_", "-r").replace("_", "-")

    @property
    def about(self) -> dict[str, str]:
        """The section `about` in the settings of the loaded model."""
        place = f"on COCO val2017, reported by {PROGRAMS[self.program]}"
        return {
            "name": self.name,
            "origin": PROGRAMS[self.program],
            "source": self.address,
            **({"mirror": " ".join(copy.address for copy in self.copies[1:])} if self.mirrors else {}),
            "data": "COCO 2017",
            "licence": LICENCES[self.program],
            **({} if self.box_ap is None else {"box AP": f"{self.box_ap / 100:.3f} {place}"}),
            "mask AP": f"{self.mask_ap / 100:.3f} {place}",
            "recipe": self.recipe,
        }


# title, SHA-256, box AP, mask AP. The digests come from public listings of the two repositories. A digest is empty if
# the listings have none.
# fmt: off
ON_CONDINST_HUB = (
    ("CondInst_MS_R_50_1x", "dacbe466377098c90189d9e3464013b84809eed5b0ace71fa87a5876db4f6972", 39.7, 35.7),
    ("CondInst_MS_R_50_3x", "5f3d214f0d660a910324d6229139b4150438ba18fcb7fbb05c334e59c058d826", 41.9, 37.5),
    ("CondInst_MS_R_101_3x", "4d3f2e82ccce199862a063e384d8bef0291f3291626b0379dc5f18859c4995ac", 43.3, 38.6),
    ("CondInst_MS_R_50_3x_sem", "f017865be3f15fb06017811d9666af7120abad0790c9492ef41bd6f1e10c9103", 42.6, 38.2),
    ("CondInst_MS_R_101_3x_sem", "dffc36a0e2a303aa96373d786193c19f6313d268c81fd2260389d30ec7835295", 44.6, 39.8),
    ("CondInst_MS_R_50_BiFPN_1x", "", 42.5, 37.3),
    ("CondInst_MS_R_50_BiFPN_3x", "", 44.3, 38.9),
    ("CondInst_MS_R_50_BiFPN_3x_sem", "2bac824a54bd02525533fd417871a3e8f0abbd07e71792252ce234c97aefa0c2", 44.7, 39.4),
    ("CondInst_MS_R_101_BiFPN_3x", "4fd097308b54489b913ec2e2ab421a76b6cb5210680b2344514ed6e6cf612bdd", 45.3, 39.6),
    ("CondInst_R_101_BiFPN_3x_sem", "", 45.7, 40.2),  # no MS_ in this file's name
)
ON_BOXINST_HUB = (
    ("BoxInst_MS_R_50_1x", "b7e45b6977364a6d1899d1989c39e8f23c208efe8c7275a6a1be035e5a36fe65", 39.4, 30.7),
    ("BoxInst_MS_R_50_3x", "", 41.5, 31.8),
    ("BoxInst_MS_R_101_1x", "1440a842bc60a4ba4a791af8a1f2aa37905673aa53be67ef9e37f3d9e696459c", 41.4, 32.2),
    ("BoxInst_MS_R_101_3x", "e11cfa9c1ca490ba10dd9bb1271aa50fb9cb95f5678ba495c49a87af9ea3d80c", 43.3, 33.0),
    ("BoxInst_MS_R_101_BiFPN_3x", "c8e540a3e003461e99904d788c9887208c19587528f212465c3a4611d518f549", 45.4, 34.1),
    ("BoxInst_MS_R_101_BiFPN_dcni3_3x", "3d806ac5e067113c7f32b2cc183ab85fb4feab85579cd2a4dcc71486262d514a", 46.4, 34.8),
)
# folder, title, rest of the file name (its last digits are the beginning of the SHA-256), box AP, mask AP
AT_OPENMMLAB = (
    ("condinst", "condinst_r50_fpn_ms-poly-90k_coco_instance", "20221129_125223-4c186406", 39.8, 36.0),
    ("boxinst", "boxinst_r50_fpn_ms-90k_coco", "20221228_163052-6add751a", 39.6, 31.1),
    ("boxinst", "boxinst_r101_fpn_ms-90k_coco", "20221229_145106-facf375b", 41.8, 32.7),
)
# size, part of the title, rest of the file name, size in the mirror's file name, box AP, mask AP
RTMDET_INS_AT_OPENMMLAB = (
    ("tiny", "8xb32", "20221130_151727-ec670f7e", "t", 40.5, 35.4),
    ("s", "8xb32", "20221121_212604-fdc5d7ec", "s", 44.0, 38.7),
    ("m", "8xb32", "20221123_001039-6eba602e", "m", 48.8, 42.1),
    ("l", "8xb32", "20221124_103237-78d1d652", "l", 51.2, 43.7),
    ("x", "8xb16", "20221124_111313-33d4595b", "x", 52.4, 44.6),
)
# title, file, box AP, mask AP. The authors do not say which images the APs are of. The digests are unknown.
ON_BOXED_HUB = (
    ("BlendMask_R_50_1x", "R_50_1x", 39.9, 35.8),
    ("BlendMask_R_50_3x", "R_50_3x", 42.7, 37.8),
    ("BlendMask_R_101_3x", "R_101_3x", 44.8, 39.5),
    ("BlendMask_R_101_dcni3_5x", "R_101_dcni3_5x", 46.8, 41.1),
    ("BlendMask_550_R_50_3x", "550_R_50_3x", 38.7, 34.5),
    ("BlendMask_RT_R_50_4x_syncbn_shtw", "RT_R_50_4x_syncbn_shtw", 39.3, 35.1),
    ("BlendMask_RT_R_50_4x_bn-head_syncbn_shtw", "RT_R_50_4x_bn-head_syncbn_shtw", 39.3, 35.1),
    ("BlendMask_DLA_34_syncbn_4x", "DLA_34_syncbn_4x", 40.8, 36.3),
    ("MEInst_R_50_1x_none", "MEInst_R_50_1x_none", 39.5, 30.7),
    ("MEInst_R_50_1x", "MEInst_R_50_1x", 40.1, 31.7),
    ("MEInst_R_50_3x", "MEInst_R_50_3x", 43.6, 34.5),
    ("MEInst_R_50_3x_512", "MEInst_R_50_3x_512", 40.8, 32.2),
)
# title, rest of the file name, mask AP
SOLO_AT_OPENMMLAB = (
    ("solo_r50_fpn_1x_coco", "20210821_035055-2290a6b8", 33.1),
    ("solo_r50_fpn_3x_coco", "20210901_012353-11d224d7", 35.9),
    ("decoupled_solo_r50_fpn_1x_coco", "20210820_233348-6337c589", 33.9),
    ("decoupled_solo_r50_fpn_3x_coco", "20210821_042504-7b3301ec", 36.7),
    ("decoupled_solo_light_r50_fpn_3x_coco", "20210906_142703-e70e226f", 32.9),
    ("solov2_r50_fpn_1x_coco", "20220512_125858-a357fa23", 34.8),
    ("solov2_r50_fpn_3x_coco", "20220512_125856-fed092d4", 37.5),
    ("solov2_r101_fpn_3x_coco", "20220511_095119-c559a076", 39.1),
    ("solov2_r101_dcn_fpn_3x_coco", "20220513_214734-16c966cb", 41.2),
    ("solov2_x101_dcn_fpn_3x_coco", "20220513_214337-aef41095", 42.4),
    ("solov2_light_r18_fpn_3x_coco", "20220511_083717-75fa355b", 29.7),
    ("solov2_light_r34_fpn_3x_coco", "20220511_091839-e51659d3", 31.9),
    ("solov2_light_r50_fpn_3x_coco", "20220512_165256-c93a6074", 33.7),
)
# title, short name, rest of the file name, mask AP
YOLACT_AT_OPENMMLAB = (
    ("yolact_r50_1x8_coco", "yolact-r50", "20200908-f38d58df", 29.0),
    ("yolact_r50_8x8_coco", "yolact-r50-8x8", "20200908-ca34f5db", 28.4),
    ("yolact_r101_1x8_coco", "yolact-r101", "20200908-4cbe9101", 30.4),
)
# fmt: on


def _boxed(title: str, file: str, box_ap: float, mask_ap: float) -> Checkpoint:
    alias = title.lower().replace("_r_", "-r").replace("_", "-")
    return Checkpoint(f"{ADELAIDET}/{title}", BOXED_HUB, f"{file}.pth", "", box_ap, mask_ap, alias=alias)


def _yolact(title: str, alias: str, stamp: str, mask_ap: float) -> Checkpoint:
    place, file = f"{OPENMMLAB_2}/yolact/{title}", f"{title}_{stamp}.pth"
    return Checkpoint(f"{MMDETECTION}/{title}", place, file, stamp[-8:], None, mask_ap, alias=alias)


def _solo(title: str, stamp: str, mask_ap: float) -> Checkpoint:
    folder = "solov2" if title.startswith("solov2") else "solo"
    place, file = f"{OPENMMLAB_2}/{folder}/{title}", f"{title}_{stamp}.pth"
    alias = title.removesuffix("_coco").replace("_fpn", "").replace("_", "-")
    return Checkpoint(f"{MMDETECTION}/{title}", place, file, stamp[-8:], None, mask_ap, alias=alias)


def _rtmdet_ins(size: str, batch: str, stamp: str, letter: str, box_ap: float, mask_ap: float) -> Checkpoint:
    title, copy = f"{RTMDET_INS}_{size}_{batch}-300e_coco", f"LibreRTMDet{letter}-seg"
    place, file = f"{OPENMMLAB}/rtmdet/{title}", f"{title}_{stamp}.pth"
    mirror = Mirror(f"{MIRRORS}/{copy}", f"{copy}.pt")
    return Checkpoint(
        f"{MMDETECTION}/{title}", place, file, stamp[-8:], box_ap, mask_ap, (mirror,), f"{RTMDET_INS}-{size}"
    )


PUBLISHED = (
    *(
        Checkpoint(f"{ADELAIDET}/{title}", hub, f"{title}.pth", sha256, box_ap, mask_ap)
        for hub, rows in ((CONDINST_HUB, ON_CONDINST_HUB), (BOXINST_HUB, ON_BOXINST_HUB))
        for title, sha256, box_ap, mask_ap in rows
    ),
    *(
        Checkpoint(
            f"{MMDETECTION}/{title}",
            f"{OPENMMLAB}/{folder}/{title}",
            f"{title}_{stamp}.pth",
            stamp[-8:],
            box_ap,
            mask_ap,
        )
        for folder, title, stamp, box_ap, mask_ap in AT_OPENMMLAB
    ),
    *(_rtmdet_ins(*row) for row in RTMDET_INS_AT_OPENMMLAB),
    *(_solo(*row) for row in SOLO_AT_OPENMMLAB),
    *(_boxed(*row) for row in ON_BOXED_HUB),
    *(_yolact(*row) for row in YOLACT_AT_OPENMMLAB),
)
CATALOGUE = {checkpoint.name: checkpoint for checkpoint in PUBLISHED}
BY_FILE = {checkpoint.file: checkpoint for checkpoint in PUBLISHED}
_BY_LOWER = {name.lower(): checkpoint for checkpoint in PUBLISHED for name in (checkpoint.name, checkpoint.short)}
# the authors' table has MS_ in the name, the file does not
_BY_LOWER["adelaidet/condinst_ms_r_101_bifpn_3x_sem"] = CATALOGUE["adelaidet/CondInst_R_101_BiFPN_3x_sem"]


def find_checkpoint(name: str) -> Checkpoint | None:
    """Return the published file of this name. Case does not matter."""
    return _BY_LOWER.get(name.lower())


def nearest(name: str, others: tuple[str, ...] = ()) -> str:
    """Return the published name, or the name in `others`, most similar to `name`; empty without a similar name."""
    shorts = (checkpoint.short for checkpoint in PUBLISHED)
    known = {other.lower(): other for other in (*others, *CATALOGUE, *shorts)}
    return next((known[near] for near in difflib.get_close_matches(name.lower(), known, 1)), "")
