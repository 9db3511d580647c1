"""What can be set, group by group, each setting with its default, unit, range and meaning."""

from __future__ import annotations

from dataclasses import dataclass, field

from sam_perception.errors import ConfigError
from sam_perception.settings import Validated, setting


@dataclass(frozen=True)
class TrackerConfig(Validated):
    """The memory bank and what counts as seen."""

    conditioning_frames: int = setting(
        2, "prompted frames kept in memory: the first and the latest ones", low=1, high=16
    )
    feature_cache_frames: int = setting(
        4, "recent frames whose image features are kept, so that a late prompt finds its picture", low=1, high=64
    )
    feature_cache_mb: int = setting(
        1024, "megabytes that those features may take; of the two limits the smaller one counts", low=1, high=1_000_000
    )
    catch_up_frames: int = setting(
        2, "frames of the past that one step works off for late prompts, beside its own frame", low=2, high=64
    )
    memory_policy: str = setting(
        "fifo",
        "which frames are remembered; fifo: all, as SAM 2; distractor_aware: also unambiguous ones with a look-alike "
        "in view, for longer, and none without the object; gated_3d: none in which the object jumps",
        choices=("fifo", "distractor_aware", "gated_3d"),
    )
    lasting_frames: int = setting(2, "distractor_aware: unambiguous frames kept for longer", low=1, high=16)
    lasting_gap_frames: int = setting(
        5, "distractor_aware: frames between two that are kept for longer", low=1, high=10_000
    )
    reliable_mask_score: float = setting(
        0.8, "distractor_aware: mask score from which a frame may be kept for longer", low=0.0, high=1.0
    )
    gate_speed_m_s: float = setting(
        2.0, "gated_3d: objects move no faster than this, seen from the camera", low=0.0, high=100.0
    )
    gate_size_ratio: float = setting(
        1.8, "gated_3d: from frame to frame, objects grow or shrink by no more than this factor", low=1.0, high=100.0
    )
    visible_score: float = setting(0.5, "object score from which an object counts as seen", low=0.0, high=1.0)
    min_mask_score: float = setting(
        0.1, "predicted IoU from which a mask counts as seen; 0: whatever the model thinks of it", low=0.0, high=1.0
    )
    min_mask_area_px: int = setting(16, "masks with fewer pixels count as not seen", low=1, high=1_000_000)
    stay_share: float = setting(
        0.5,
        "share of visible_score, min_mask_score and min_mask_area_px that suffices for an object that was seen in the "
        "frame before; 1: no hysteresis",
        low=0.0,
        high=1.0,
    )
    lost_after_frames: int = setting(
        30,
        "unseen frames after which OCCLUDED becomes LOST; those in which depth shows something nearer in front do not "
        "count",
        low=1,
        high=100_000,
    )
    confirm_frames: int = setting(3, "seen frames after which REACQUIRED becomes TRACKED", low=1, high=1000)
    memory_fallback: bool = setting(
        True,
        "where the device's memory runs out, make do with less, step by step: objects in turns, image features of one "
        "frame, half precision, CPU; false: the frame is dropped",
    )
    memory_recover_s: float = setting(
        30.0, "undisturbed time after which such a step is taken back", low=0.1, high=86_400.0
    )


@dataclass(frozen=True)
class GeometryConfig(Validated):
    """How a mask and depth become points, a centroid and a box."""

    min_depth_m: float = setting(0.1, "nearer depth is no return", low=0.0, high=100.0)
    max_depth_m: float = setting(10.0, "farther depth is no return", low=0.0, high=1000.0)
    remove_flying_pixels: bool = setting(True, "drop pixels that float between two surfaces at depth edges")
    edge_jump: float = setting(
        0.03, "depth step between neighbours, relative to depth, that counts as an edge", low=0.001, high=1.0
    )
    remove_outliers: bool = setting(True, "drop points far from the object's own surface")
    outlier_sigmas: float = setting(
        3.0,
        "separate surfaces farther from the object than this many standard deviations of its depth are dropped",
        low=0.5,
        high=20.0,
    )
    depth_noise_m: float = setting(
        0.0015, "standard deviation of depth at 1 m; grows with the square of the distance", low=0.0, high=1.0
    )
    min_points: int = setting(20, "fewer valid points give no centroid and no box", low=4, high=1_000_000)


@dataclass(frozen=True)
class GraspConfig(Validated):
    """The gripper, and which grasps are good enough to be proposed."""

    enabled: bool = setting(True, "propose grasps for tracked objects")
    gripper: str = setting(
        "franka_hand",
        "gripper whose dimensions are used; custom: the numbers below",
        choices=("franka_hand", "robotiq_2f85", "custom"),
    )
    max_opening_m: float = setting(0.08, "custom: distance between the open fingers", low=0.005, high=1.0)
    finger_depth_m: float = setting(0.045, "custom: from palm to finger tips", low=0.005, high=1.0)
    finger_thickness_m: float = setting(0.015, "custom: finger along the closing direction", low=0.001, high=0.2)
    finger_width_m: float = setting(0.02, "custom: finger across approach and closing", low=0.001, high=0.2)
    palm_width_m: float = setting(0.2, "custom: palm along the closing direction", low=0.005, high=1.0)
    palm_thickness_m: float = setting(0.065, "custom: palm across approach and closing", low=0.005, high=1.0)
    palm_depth_m: float = setting(0.06, "custom: palm along the approach", low=0.0, high=1.0)
    friction: float = setting(0.5, "coefficient between finger and object", low=0.05, high=2.0)
    clearance_m: float = setting(0.006, "room kept on each side of the fingers", low=0.0, high=0.1)
    max_targets: int = setting(5, "grasps per object, best first", low=1, high=100)
    min_score: float = setting(0.1, "grasps scored lower are not proposed", low=0.0, high=1.0)
    max_unseen_share: float = setting(
        0.5, "share of the fingers' volume that may lie where the camera cannot see", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class NavigationConfig(Validated):
    """Ground, obstacles and the scene without the targets."""

    enabled: bool = setting(True, "find ground and obstacles")
    pixel_step: int = setting(3, "one pixel of every n x n is looked at, also in scene_points", low=1, high=32)
    up_x: float = setting(0.0, "up in the camera's optical frame where neither IMU nor tf tells", low=-1.0, high=1.0)
    up_y: float = setting(-1.0, "as up_x; 0 -1 0 is a level camera", low=-1.0, high=1.0)
    up_z: float = setting(0.0, "as up_x; 0 0 -1 is a camera that looks straight down", low=-1.0, high=1.0)
    up_tolerance_deg: float = setting(
        65.0, "how far the ground's normal may lie from up_x up_y up_z", low=1.0, high=90.0
    )
    gravity_tolerance_deg: float = setting(8.0, "how far it may lie from measured gravity", low=1.0, high=90.0)
    plane_tolerance_m: float = setting(
        0.008, "points this close to a plane lie on it; more where depth is noisier", low=0.0005, high=0.5
    )
    min_plane_share: float = setting(0.08, "share of the points that makes a plane", low=0.01, high=1.0)
    max_planes: int = setting(4, "planes looked for", low=1, high=16)
    ground_switch_frames: int = setting(
        5, "frames in a row in which another plane must be the ground before it is taken for it", low=1, high=1000
    )
    plane_memory_frames: int = setting(
        150, "where the camera's pose is known: frames after which a sight of a plane counts 1/e", low=1, high=100_000
    )
    min_obstacle_height_m: float = setting(0.015, "lower things are UNKNOWN, not obstacles", low=0.0, high=10.0)
    max_obstacle_height_m: float = setting(
        100.0, "what is higher above the ground is not in the way", low=0.01, high=1000.0
    )
    cluster_distance_m: float = setting(0.03, "points closer than this belong to one segment", low=0.001, high=10.0)
    min_points: int = setting(15, "grid points that make an obstacle; fewer are UNKNOWN", low=1, high=100_000)
    min_hole_px: int = setting(400, "pixels of a hole in depth that make an UNKNOWN segment", low=1, high=10_000_000)
    target_dilation_px: int = setting(6, "targets' masks are widened by this before they are cut out", low=0, high=200)
    match_distance_m: float = setting(0.3, "an obstacle may move this far between frames", low=0.001, high=100.0)
    min_label_share: float = setting(
        0.5, "of a plane's pixels must be called floor, or wall, for it to count", low=0.01, high=1.0
    )
    forget_frames: int = setting(5, "frames for which an unseen obstacle keeps its id", low=0, high=10_000)
    everything_rate_hz: float = setting(
        0.0, "pictures cut up per second to tell obstacles apart that touch in depth; 0: none", low=0.0, high=60.0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(abs(self.up_x), abs(self.up_y), abs(self.up_z)) < 1e-6:
            raise ConfigError("up_x, up_y and up_z are all zero: give the direction of up, 0 -1 0 if level")


@dataclass(frozen=True)
class EverythingConfig(Validated):
    """Automatic mask generation: a picture cut up as a whole, by a grid of points. Names are those of SAM's own."""

    model: str = setting(
        "", "the model for it; empty: the one that tracks; or a name, sam-vit-base and the like too, or a folder"
    )
    points_per_side: int = setting(32, "points along each side of the picture", low=1, high=256)
    points_per_batch: int = setting(64, "points that go through the mask decoder at once", low=1, high=65_536)
    pred_iou_thresh: float = setting(0.8, "masks that the model is less sure of are dropped", low=0.0, high=1.0)
    stability_score_thresh: float = setting(
        0.95, "masks that change more with the cut of their logits are dropped", low=0.0, high=1.0
    )
    stability_score_offset: float = setting(
        1.0, "how far that cut is moved up and down, in logits", low=0.0, high=100.0
    )
    box_nms_thresh: float = setting(
        0.7, "of masks whose boxes overlap by more than this (IoU) the surest stays", low=0.0, high=1.0
    )
    crop_n_layers: int = setting(
        0, "also look at crops: 4 in the first layer, 16 in the second; for large pictures", low=0, high=4
    )
    crop_nms_thresh: float = setting(0.7, "the same between crops, where the smaller crop wins", low=0.0, high=1.0)
    crop_overlap_ratio: float = setting(
        512 / 1500, "overlap of the first layer's crops, as a share of the picture's shorter side", low=0.0, high=0.9
    )
    crop_n_points_downscale_factor: int = setting(
        1, "points along a side are divided by this in each layer of crops", low=1, high=64
    )
    min_mask_region_area: int = setting(
        0, "pixels; smaller holes are filled and smaller islands removed; 0: none", low=0, high=10_000_000
    )


@dataclass(frozen=True)
class WordsConfig(Validated):
    """Objects that are asked for in words, and how they are found again."""

    model: str = setting(
        "", "Grounding DINO, OWLv2 or CLIP: a directory or a name on the Hugging Face Hub; empty: no words"
    )
    box_threshold: float = setting(0.3, "detections with a lower score are not taken", low=0.0, high=1.0)
    text_threshold: float = setting(
        0.25, "Grounding DINO: mean score of the words' tokens from which a box is meant by them", low=0.0, high=1.0
    )
    nms_iou: float = setting(0.5, "of boxes that overlap by more than this (IoU) the surest stays", low=0.0, high=1.0)
    search_period_s: float = setting(
        1.0, "time between two searches for what was not found yet, or is LOST", low=0.0, high=3600.0
    )
    gate_m: float = setting(
        0.3,
        "a lost object is found again at most this far from where it was, plus speed times time",
        low=0.0,
        high=100.0,
    )
    gate_speed_m_s: float = setting(0.5, "how fast a lost object may move, seen from the camera", low=0.0, high=100.0)
    min_likeness: float = setting(
        0.75, "likeness, by features and colours, of what was lost and what is taken for it", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class DetectorConfig(Validated):
    """Objects that a detector of fixed classes finds by itself, its own or on ~/detections."""

    model: str = setting(
        "", "object detection or instance segmentation (DETR family, Mask2Former): directory or name; empty: none"
    )
    rate_hz: float = setting(2.0, "how often the model looks at a picture", low=0.01, high=1000.0)
    classes: str = setting("", "classes that become objects, separated by commas; empty: all")
    threshold: float = setting(0.5, "detections with a lower score are not taken", low=0.0, high=1.0)
    nms_iou: float = setting(0.7, "of boxes that overlap by more than this (IoU) the surest stays", low=0.0, high=1.0)
    match_iou: float = setting(
        0.3, "a detection that overlaps a tracked object by this (IoU) is that object", low=0.01, high=1.0
    )
    match_m: float = setting(
        0.1, "one that overlaps it at all, and is this close to it in space, is that object too", low=0.0, high=10.0
    )


@dataclass(frozen=True)
class SemanticConfig(Validated):
    """Which pixels are floor and which are wall, by a model, for navigation."""

    model: str = setting("", "semantic segmentation (SegFormer and others): a directory or a name; empty: none")
    rate_hz: float = setting(2.0, "how often the model looks at a picture", low=0.01, high=1000.0)
    floor: str = setting(
        "floor,road,sidewalk,rug,path,grass,earth,sand", "the model's classes that are ground, separated by commas"
    )
    wall: str = setting(
        "wall,building,door,windowpane,curtain,fence", "the model's classes that are walls, separated by commas"
    )


@dataclass(frozen=True)
class DepthConfig(Validated):
    """Depth where the sensor has none, guessed from colour by a model."""

    mode: str = setting(
        "sensor",
        "sensor: nothing is guessed; fill: guesses fill holes; estimate: guesses stand in for the sensor, whose "
        "depth, where there is any, gives them their scale",
        choices=("sensor", "fill", "estimate"),
    )
    model: str = setting("", "DPT, Depth Anything and others: a directory or a name on the Hugging Face Hub")
    min_valid_share: float = setting(
        0.02, "of the pixels need the sensor's depth, or the guess has no scale", low=0.0, high=1.0
    )
    max_relative_error: float = setting(
        0.15, "guesses that fit the sensor worse than this share of depth are not used", low=0.001, high=1.0
    )
    unscaled_error: float = setting(
        0.25, "relative error of models that give metres, where there is no sensor to fit them to", low=0.0, high=10.0
    )
    navigate: bool = setting(False, "also let ground and obstacles come from guesses; holes are then not UNKNOWN")


@dataclass(frozen=True)
class PerceptionConfig(Validated):
    """Everything `Perception` can be told.

    Raises:
        ConfigError: a value of the wrong type or outside its range.
    """

    model: str = setting("nano", "nano, sam2.1-hiera-tiny, -small, -base-plus, -large, or a checkpoint directory")
    device: str = setting(
        "auto", "auto, cpu, cuda or cuda:N; auto takes a GPU where there is one; exported models: tensorrt, too"
    )
    dtype: str = setting(
        "auto",
        "number format of the model; auto: bfloat16 on GPUs that have it, float16 on others, float32 on CPU",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    compile: bool = setting(
        False,
        "compile the model while it is loaded, which takes minutes and makes frames faster; with CUDA graphs on GPUs",
    )
    max_objects: int = setting(8, "objects tracked at once; memory is set aside for them", low=1, high=256)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    geometry: GeometryConfig = field(default_factory=GeometryConfig)
    grasps: GraspConfig = field(default_factory=GraspConfig)
    navigation: NavigationConfig = field(default_factory=NavigationConfig)
    everything: EverythingConfig = field(default_factory=EverythingConfig)
    words: WordsConfig = field(default_factory=WordsConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    depth: DepthConfig = field(default_factory=DepthConfig)
