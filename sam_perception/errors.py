"""What can go wrong, as one family of exceptions.

Every message gives the values that were seen and what to do next; nothing in the
package guards a user's mistake with an assert, prints, or falls back to a made-up value.
The node turns each kind into a diagnostic of the same name.
"""


class PerceptionError(Exception):
    """Base of every error that this package raises on purpose."""

    @property
    def kind(self) -> str:
        """Stable short name, used as the key of drop counters and diagnostics."""
        return type(self).__name__


class ConfigError(PerceptionError, ValueError):
    """A setting is of the wrong type, out of its range or unknown."""


class FrameError(PerceptionError, ValueError):
    """A camera frame cannot be used; the next good one can."""


class DepthNotAligned(FrameError):
    """Depth does not lie on the colour image's pixel grid."""


class FrameIdMismatch(FrameError):
    """Colour, depth and camera_info do not name the same optical frame."""


class UnsupportedEncoding(FrameError):
    """An image has an encoding that cannot be turned into RGB or metres."""


class MalformedImage(FrameError):
    """An image's size, row step and data do not fit together."""


class InvalidIntrinsics(FrameError):
    """Camera intrinsics are missing, not finite, zero or of another image size."""


class DepthFitRefused(PerceptionError):
    """A guess of depth cannot be brought to the sensor's scale."""


class MalformedMessage(PerceptionError, ValueError):
    """A message of results says what cannot be: its sender is of another version, or is broken."""


class StampError(FrameError):
    """A stamp is negative, repeated or older than one already processed."""


class TransformError(PerceptionError):
    """The transform between two frames is not to be had for the stamp in question, or is none."""


class UnknownFrame(TransformError):
    """Nobody has told of a frame, or two frames are not connected."""


class PromptError(PerceptionError, ValueError):
    """A prompt is malformed."""


class PromptOutsideImage(PromptError):
    """A prompt's points, box or mask do not lie on the image."""


class EmptyPrompt(PromptError):
    """A prompt marks nothing: no point, an empty box, or a mask without a pixel."""


class UnknownObject(PerceptionError, KeyError):
    """No object has this id."""

    def __str__(self) -> str:
        # KeyError quotes its argument, which would put the sentence in quotation marks.
        return str(self.args[0]) if self.args else ""


class NoFreeSlot(PerceptionError):
    """As many objects are tracked as were allowed for."""


class ModelError(PerceptionError):
    """A model cannot be used."""


class ModelNotFound(ModelError):
    """No model of this name or at this path."""


class CheckpointError(ModelError):
    """A checkpoint is truncated, fails its checksum or does not fit its config."""


class DeviceMemoryError(ModelError):
    """The GPU's memory (or the computer's) does not suffice, and nothing that needs less is left to try."""


class StageFailed(PerceptionError):
    """A stage failed on a frame, by a defect of the program; its part of the answer is missing."""


class NodeFailed(PerceptionError):
    """The node's process did not start, answer or end as it should."""


class SourceError(PerceptionError):
    """A bag, folder or camera cannot be read."""


class SinkError(PerceptionError):
    """A bag, report or folder cannot be written."""


class ConsoleError(PerceptionError):
    """The web console cannot be served, or a browser has sent it what it does not understand."""
