"""A model's scheduler_config.json: along which path it was trained, and what its network says.

The fields are those of diffusers' schedulers, read and written so that either side opens what the
other wrote. A class of diffusers knows some of the fields and has defaults of its own for them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from reprlib import repr as shortened
from typing import Any, Literal

from vermilion.errors import InputError, ModelError
from vermilion.models.files import read_json, write_json

PredictionType = Literal["epsilon", "sample", "v_prediction", "flow_prediction"]
Spacing = Literal["leading", "linspace", "trailing"]

FLOW = "FlowMatchEulerDiscreteScheduler"

_PATH = (
    "num_train_timesteps beta_start beta_end beta_schedule trained_betas prediction_type"
    " timestep_spacing steps_offset"
)
_CLIP = " clip_sample clip_sample_range"
_THRESHOLD = " thresholding dynamic_thresholding_ratio sample_max_value"
_ZERO = " rescale_betas_zero_snr"
# Which of our fields a class has.
_KNOWN: Mapping[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "DDPMScheduler": _PATH + _CLIP + _THRESHOLD + _ZERO + " variance_type",
        "DDIMScheduler": _PATH + _CLIP + _THRESHOLD + _ZERO + " set_alpha_to_one",
        "PNDMScheduler": _PATH + " set_alpha_to_one",
        "EulerDiscreteScheduler": _PATH + _ZERO + " use_karras_sigmas final_sigmas_type",
        "EulerAncestralDiscreteScheduler": _PATH + _ZERO,
        "HeunDiscreteScheduler": _PATH + _CLIP + " use_karras_sigmas",
        "DPMSolverMultistepScheduler": _PATH
        + _THRESHOLD
        + _ZERO
        + " use_karras_sigmas final_sigmas_type lower_order_final euler_at_final"
        " lambda_min_clipped use_flow_sigmas flow_shift",
        "DPMSolverSinglestepScheduler": _PATH + _THRESHOLD,
        "DEISMultistepScheduler": _PATH + _THRESHOLD,
        "UniPCMultistepScheduler": _PATH + _THRESHOLD + _ZERO,
        "LMSDiscreteScheduler": _PATH,
        "KDPM2DiscreteScheduler": _PATH,
        "KDPM2AncestralDiscreteScheduler": _PATH,
        FLOW: "num_train_timesteps shift",
    }.items()
}
# What a class takes where its file leaves a field out, where that is not our own default.
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "DDPMScheduler": {"clip_sample": True},
    "DDIMScheduler": {"clip_sample": True},
    "PNDMScheduler": {"set_alpha_to_one": False},
    "HeunDiscreteScheduler": {"beta_start": 0.00085, "beta_end": 0.012},
    "KDPM2DiscreteScheduler": {"beta_start": 0.00085, "beta_end": 0.012},
    "KDPM2AncestralDiscreteScheduler": {"beta_start": 0.00085, "beta_end": 0.012},
}
_LEADING = ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler")
_SAMPLERS = {
    "DDPMScheduler": "ddpm",
    "DDIMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "HeunDiscreteScheduler": "heun",
    FLOW: "flow_euler",
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "beta_schedule": ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"),
    "prediction_type": ("epsilon", "sample", "v_prediction", "flow_prediction"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "variance_type": ("fixed_small", "fixed_small_log", "fixed_large", "learned_range"),
    "final_sigmas_type": ("zero", "sigma_min"),
}
# Fields that would bend the path or its steps in a way that there is not here, and what switches
# each off.
_UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "use_exponential_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "use_dynamic_shifting": (False, None),
    "invert_sigmas": (False, None),
    "stochastic_sampling": (False, None),
    "shift_terminal": (None, 0),
    "timestep_type": ("discrete",),
    "interpolation_type": ("linear",),
    "sigma_min": (None,),
    "sigma_max": (None,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Fields of scheduler_config.json, under diffusers' names.

    Attributes:
        class_name: the class of diffusers that opens it (`_class_name`).
        num_train_timesteps: T, levels of noise at training.
        beta_start: variance of the noise of the first step, 0 to 1.
        beta_end: and of the last.
        beta_schedule: how beta goes from one to the other: "linear" (Ho et al. 2020),
            "scaled_linear" (linear in its root: latent diffusion), "squaredcos_cap_v2" (the cosine
            of Nichol & Dhariwal 2021, without the two ends) or "sigmoid".
        trained_betas: (T,) betas in place of all that.
        rescale_betas_zero_snr: whether the last level is made pure noise (Lin et al. 2023, alg. 1).
        prediction_type: what the network says, see `prediction`.
        timestep_spacing: which of the T levels are visited (Lin et al. 2023, table 2).
        steps_offset: added to each timestep, with "leading" only.
        set_alpha_to_one: whether ddim ends without any noise, or on level 0.
        clip_sample: whether ddpm, ddim and heun clip the predicted x_0.
        clip_sample_range: to plus and minus this.
        thresholding: whether they, and dpmpp_2m, threshold it (Saharia et al. 2022, section 2.3).
        dynamic_thresholding_ratio: the percentile, 0 to 1.
        sample_max_value: the largest threshold.
        variance_type: of ddpm: "fixed_small", "fixed_large", or "learned_range" for a network that
            says it in as many channels again (Nichol & Dhariwal 2021, eq. 15).
        use_karras_sigmas: whether euler, heun and dpmpp_2m step as Karras et al. 2022, eq. 5.
        final_sigmas_type: whether euler and dpmpp_2m end without any noise ("zero") or on level 0.
        lower_order_final: whether dpmpp_2m ends with a first-order step below 15 steps.
        euler_at_final: whether it always does.
        lambda_min_clipped: log signal-to-noise ratio, halved, below which dpmpp_2m does not begin.
        use_flow_sigmas: of DPMSolverMultistepScheduler: the path is a rectified flow.
        flow_shift: its shift.
        shift: of a rectified flow: above 1 steps stay longer where there is much noise (Esser et
            al. 2024, eq. 23).
        others: fields of the file that nothing here reads; they are written back.

    Raises:
        ModelError: a value that there is not, or fields that do not fit together.
    """

    class_name: str = "DDIMScheduler"
    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: PredictionType = "epsilon"
    timestep_spacing: Spacing = "leading"
    steps_offset: int = 0
    set_alpha_to_one: bool = True
    clip_sample: bool = False
    clip_sample_range: float = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    variance_type: str = "fixed_small"
    use_karras_sigmas: bool = False
    final_sigmas_type: str = "zero"
    lower_order_final: bool = True
    euler_at_final: bool = False
    lambda_min_clipped: float = -math.inf
    use_flow_sigmas: bool = False
    flow_shift: float = 1.0
    shift: float = 1.0
    others: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.class_name not in _KNOWN:
            raise ModelError(
                f"_class_name: {shortened(self.class_name)} is no scheduler that can be read here;"
                f" these can: {', '.join(sorted(_KNOWN))}"
            )
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ModelError(
                    f"{name}: must be one of {', '.join(known)}"
                    f" (found {shortened(getattr(self, name))})"
                )
        self._check_numbers()
        self._check_prediction()
        object.__setattr__(self, "others", dict(self.others))

    def _check_numbers(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(entry.default, bool) and not isinstance(value, bool):
                raise ModelError(f"{entry.name}: must be true or false (found {shortened(value)})")
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if isinstance(entry.default, float) and not (number and value == value):
                raise ModelError(f"{entry.name}: must be a number (found {shortened(value)})")
        for name, least in (("num_train_timesteps", 2), ("steps_offset", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value < 2**20:
                raise ModelError(f"{name}: must be a whole number of at least {least}")
        betas = (self.beta_start, self.beta_end, *(self.trained_betas or ()))
        if not all(isinstance(beta, (int, float)) and 0 <= beta < 1 for beta in betas):
            raise ModelError("beta_start, beta_end, trained_betas: must be from 0 to below 1")
        if self.trained_betas is not None and len(self.trained_betas) != self.num_train_timesteps:
            raise ModelError(
                f"trained_betas: there are {len(self.trained_betas)}"
                f" for {self.num_train_timesteps} timesteps"
            )
        for name in ("shift", "flow_shift", "clip_sample_range", "sample_max_value"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ModelError(f"{name}: must be above 0 (found {shortened(value)})")
        if not 0 < self.dynamic_thresholding_ratio <= 1:
            raise ModelError("dynamic_thresholding_ratio: must be above 0 and at most 1")

    def _check_prediction(self) -> None:
        kind = self.prediction_type
        if self.is_flow and kind not in ("flow_prediction", "sample"):
            raise ModelError(
                f"prediction_type: a rectified flow needs flow_prediction or sample (found {kind})"
            )
        if not self.is_flow and kind == "flow_prediction":
            raise ModelError(
                "prediction_type: flow_prediction needs a rectified flow, and"
                f" {self.class_name} is none"
            )
        if self.rescale_betas_zero_snr and kind == "epsilon":
            raise ModelError(
                "rescale_betas_zero_snr: at the last level there is nothing but noise, from which"
                " prediction_type epsilon tells no picture; use v_prediction or sample"
            )

    @property
    def is_flow(self) -> bool:
        """Whether the path is a rectified flow rather than variance preserving."""
        return self.class_name == FLOW or self.use_flow_sigmas

    @property
    def path_shift(self) -> float:
        """The shift of a rectified flow, whatever the class calls it."""
        return self.shift if self.class_name == FLOW else self.flow_shift

    @property
    def sampler(self) -> str:
        """Name of the sampler that the model comes with.

        Classes that have none here (PNDM, UniPC, DEIS, LMS, KDPM2 and DPM-Solver's other kinds)
        give dpmpp_2m, which needs about as few steps as the best of them.
        """
        karras = "_karras" if self.use_karras_sigmas else ""
        return _SAMPLERS.get(self.class_name, f"dpmpp_2m{karras}")

    @classmethod
    def rectified_flow(
        cls, prediction_type: PredictionType = "flow_prediction", shift: float = 1.0
    ) -> SchedulerConfig:
        """Of a rectified flow, under the class of diffusers that runs such a prediction.

        Args:
            prediction_type: "flow_prediction" or "sample".
            shift: see the class.
        """
        if prediction_type == "flow_prediction":
            return cls(class_name=FLOW, prediction_type=prediction_type, shift=shift)
        return cls(
            class_name="DPMSolverMultistepScheduler",
            prediction_type=prediction_type,
            use_flow_sigmas=True,
            flow_shift=shift,
        )

    @classmethod
    def read(cls, path: Path) -> SchedulerConfig:
        """What a file scheduler_config.json says.

        Raises:
            ModelError: it is missing, is no JSON, or says what there is not here.
        """
        return cls.from_json(read_json(path))

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> SchedulerConfig:
        """The same from what is in the file.

        Raises:
            ModelError: see the class.
        """
        name = found.get("_class_name")
        if not isinstance(name, str):
            raise ModelError("_class_name: is missing, so nobody can tell which scheduler this is")
        for key, off in _UNSUPPORTED.items():
            if key in found and found[key] not in off:
                raise ModelError(f"{key}: {shortened(found[key])} is not supported")
        ours = {entry.name for entry in fields(cls)} - {"class_name", "others"}
        values: dict[str, Any] = {
            "timestep_spacing": "leading" if name in _LEADING else "linspace",
            **_DEFAULTS.get(name, {}),
            **{key: value for key, value in found.items() if key in ours and value is not None},
        }
        if name == FLOW:
            values["prediction_type"] = "flow_prediction"
        if name != "DDPMScheduler" and values.get("variance_type") == "learned":
            values["variance_type"] = "learned_range"  # the others read the mean alone
        if "trained_betas" in values:
            if not isinstance(values["trained_betas"], list):
                raise ModelError("trained_betas: must be a list of numbers")
            values["trained_betas"] = tuple(values["trained_betas"])
        others = {k: v for k, v in found.items() if k not in ours and not k.startswith("_")}
        return cls(class_name=name, others=others, **values)

    def to_json(self) -> dict[str, Any]:
        """What goes into the file: the fields that the class knows, and those not read here.

        Raises:
            InputError: the class cannot say what these fields say.
        """
        known = _KNOWN[self.class_name]
        if self.beta_schedule == "sigmoid" and self.class_name != "DDPMScheduler":
            raise InputError("beta_schedule: only DDPMScheduler knows sigmoid; write it as that")
        if self.rescale_betas_zero_snr and "rescale_betas_zero_snr" not in known:
            raise InputError(
                f"rescale_betas_zero_snr: {self.class_name} does not know it;"
                " write it as DDIMScheduler"
            )
        said = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        named = {key: value for key, value in said.items() if key in known}
        if self.class_name.startswith("DPMSolver") and self.variance_type == "learned_range":
            named["variance_type"] = self.variance_type  # half of what the network says is no mean
        return {"_class_name": self.class_name, **self.others, **named}

    def write(self, path: Path) -> None:
        """Write the file.

        Raises:
            InputError: see `to_json`.
        """
        write_json(path, self.to_json())
