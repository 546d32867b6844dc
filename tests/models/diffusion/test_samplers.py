"""Every sampler against diffusers' scheduler of that name, over whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from tests.models.diffusion.peers import SEEDS, SHAPE, ours, run_of, theirs, tiny_net, tiny_unet
from vermilion import types
from vermilion.errors import InputError
from vermilion.models.diffusion.noise import Noise
from vermilion.models.diffusion.samplers import SAMPLERS, get_sampler, sampler_options
from vermilion.models.diffusion.schedule import make_schedule
from vermilion.models.diffusion.scheduler_config import SchedulerConfig

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy")

LINEAR: dict[str, Any] = {}
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
ZERO = LATENT | {"rescale_betas_zero_snr": True}
KINDS = ("epsilon", "sample", "v_prediction")
SPACINGS = ("leading", "linspace", "trailing")


def net(x: Tensor, t: Tensor) -> Tensor:
    """A network on the path of DDPM's own betas."""
    return _default(x, t)


_default = tiny_net(diffusers.DDPMScheduler(), "epsilon")


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def compare(
    peer: Any, name: str, count: int, fields: dict[str, Any], own: dict[str, Any] | None = None
) -> None:
    """What diffusers' class makes of these fields, and what we make of the file it writes."""
    scheduler = peer(**fields)
    kind = (
        "flow_prediction"
        if "FlowMatch" in peer.__name__
        else fields.get("prediction_type", "epsilon")
    )
    net = tiny_net(None if fields.get("use_flow_sigmas") else scheduler, kind)
    config = SchedulerConfig.from_json({"_class_name": peer.__name__, **scheduler.config})
    own = own or {}
    random = name in ("ddpm", "euler_ancestral") or own.get("eta", 0) > 0
    wanted = theirs(scheduler, net, count, **own | ({"generator": None} if random else {}))
    close(ours(config, name, net, count, **own), wanted)
    assert wanted.abs().max() > 0.1


def cases(kinds: tuple[str, ...], paths: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fields of all combinations that mean something."""
    return [
        path | {"prediction_type": kind}
        for path in paths
        for kind in kinds
        if not (path.get("rescale_betas_zero_snr") and kind == "epsilon")
    ]


def placements(fields: dict[str, Any]) -> list[tuple[Any, int]]:
    """Spacings and numbers of steps, for solvers that divide by alpha.

    At the noisiest levels of the cosine schedule alpha is 5e-5, and float32 leaves them nothing to
    compare. They begin below those, as "leading" does.
    """
    if fields.get("beta_schedule") == "squaredcos_cap_v2":
        return [("leading", 10), ("leading", 25)]
    return [("leading", 10), ("linspace", 25), ("trailing", 30)]


def test_their_names_are_those_of_the_settings() -> None:
    assert tuple(SAMPLERS) == types.SAMPLERS


@pytest.mark.parametrize("fields", cases(KINDS, [LINEAR, LATENT, COSINE, ZERO]), ids=str)
@pytest.mark.parametrize("clip", [False, True])
def test_ddpm(fields: dict[str, Any], clip: bool) -> None:
    for spacing, count in zip(SPACINGS, (10, 25, 30), strict=True):
        more = {"clip_sample": clip, "timestep_spacing": spacing, "clip_sample_range": 0.8}
        compare(diffusers.DDPMScheduler, "ddpm", count, fields | more)


@pytest.mark.parametrize("variance_type", ["fixed_small", "fixed_small_log", "fixed_large"])
def test_ddpm_with_other_variances(variance_type: str) -> None:
    fields = LINEAR | {"variance_type": variance_type, "clip_sample": False}
    compare(diffusers.DDPMScheduler, "ddpm", 20, fields)


def test_ddpm_with_a_variance_that_the_network_tells() -> None:
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range")
    both = tiny_net(scheduler, "epsilon", out_channels=6)
    config = SchedulerConfig.from_json({"_class_name": "DDPMScheduler", **scheduler.config})
    wanted = theirs(scheduler, both, 20, generator=None)
    close(ours(config, "ddpm", both, 20), wanted)
    # A solver of the equation reads the mean alone.
    solver = diffusers.DPMSolverMultistepScheduler(variance_type="learned_range")
    config = SchedulerConfig.from_json(
        {"_class_name": "DPMSolverMultistepScheduler", **solver.config}
    )
    close(ours(config, "dpmpp_2m", both, 20), theirs(solver, both, 20))


def test_ddpm_over_all_levels() -> None:
    fields = {"num_train_timesteps": 60, "beta_end": 0.2}
    compare(diffusers.DDPMScheduler, "ddpm", 60, fields)


@pytest.mark.parametrize("fields", cases(KINDS, [LINEAR, LATENT, COSINE, ZERO]), ids=str)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim(fields: dict[str, Any], eta: float) -> None:
    if fields.get("rescale_betas_zero_snr") and eta == 1:
        eta = 0.9  # at 1 diffusers takes the root of a rounded zero
    for spacing, count in (("leading", 10), ("leading", 30), ("trailing", 25)):
        for more in (
            {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1},
            {"clip_sample": True},
            {"thresholding": True, "sample_max_value": 1.5},
        ):
            if spacing == "trailing":
                more = {key: value for key, value in more.items() if key != "steps_offset"}
            path = fields | more | {"timestep_spacing": spacing}
            compare(diffusers.DDIMScheduler, "ddim", count, path, {"eta": eta})


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("count", [7, 30])
def test_ddim_goes_from_each_level_to_the_next(spacing: Any, count: int) -> None:
    """Where levels are not evenly spaced, diffusers' own DDIM assumes that they are.

    DPM-Solver of first order is the same step (Lu et al. 2022), and takes any timesteps.
    """
    config = SchedulerConfig(timestep_spacing=spacing, clip_sample=False)
    steps = make_schedule(config).timesteps(count, "ddim")
    peer = diffusers.DPMSolverMultistepScheduler(solver_order=1)
    noise = Noise(SEEDS, SHAPE)
    x = start = noise.next()
    peer.set_timesteps(timesteps=[int(t) for t in steps.t])
    for t in peer.timesteps:
        x = peer.step(net(x, t.expand(len(x))), t, x).prev_sample
    run = SAMPLERS["ddim"](net, start, steps, prediction_type="epsilon", noise=noise)
    close([step.x for step in run][-1], x)


@pytest.mark.parametrize("fields", cases(KINDS, [LINEAR, LATENT, COSINE, ZERO]), ids=str)
@pytest.mark.parametrize("karras", [False, True])
def test_euler(fields: dict[str, Any], karras: bool) -> None:
    for spacing, count in placements(fields):
        more = {"use_karras_sigmas": karras, "timestep_spacing": spacing}
        compare(diffusers.EulerDiscreteScheduler, "euler", count, fields | more)
    more = {"use_karras_sigmas": karras, "timestep_spacing": "leading", "steps_offset": 1}
    early = fields | more | {"final_sigmas_type": "sigma_min"}
    compare(diffusers.EulerDiscreteScheduler, "euler", 12, early)


@pytest.mark.parametrize(
    "fields", cases(("epsilon", "v_prediction"), [LINEAR, LATENT, COSINE, ZERO]), ids=str
)
def test_euler_ancestral(fields: dict[str, Any]) -> None:
    for spacing, count in placements(fields):
        more = {"timestep_spacing": spacing}
        compare(diffusers.EulerAncestralDiscreteScheduler, "euler_ancestral", count, fields | more)


@pytest.mark.parametrize("fields", cases(KINDS, [LINEAR, LATENT, COSINE]), ids=str)
@pytest.mark.parametrize("karras", [False, True])
def test_heun(fields: dict[str, Any], karras: bool) -> None:
    for spacing, count in [*placements(fields), ("leading", 1)]:
        more = {"use_karras_sigmas": karras, "timestep_spacing": spacing}
        compare(diffusers.HeunDiscreteScheduler, "heun", count, fields | more)
    clip = fields | {"clip_sample": True, "use_karras_sigmas": karras}
    clip |= {"timestep_spacing": "leading"}
    compare(diffusers.HeunDiscreteScheduler, "heun", 10, clip)


@pytest.mark.parametrize("fields", cases(KINDS, [LINEAR, LATENT, ZERO]), ids=str)
@pytest.mark.parametrize("karras", [False, True])
def test_dpmpp_2m(fields: dict[str, Any], karras: bool) -> None:
    name = "dpmpp_2m_karras" if karras else "dpmpp_2m"
    for spacing in SPACINGS:
        for count in (1, 2, 10, 25):
            for more in (
                {},
                {"lower_order_final": False, "final_sigmas_type": "sigma_min"},
                {"euler_at_final": True, "thresholding": True, "sample_max_value": 2.0},
            ):
                path = fields | more | {"use_karras_sigmas": karras, "timestep_spacing": spacing}
                compare(diffusers.DPMSolverMultistepScheduler, name, count, path)


@pytest.mark.parametrize("kind", KINDS)
def test_dpmpp_2m_that_does_not_begin_at_the_noisiest_level(kind: str) -> None:
    fields = COSINE | {"lambda_min_clipped": -5.1, "prediction_type": kind}
    for spacing in SPACINGS:
        more = {"timestep_spacing": spacing}
        compare(diffusers.DPMSolverMultistepScheduler, "dpmpp_2m", 20, fields | more)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("count", [1, 4, 28])
def test_flow_euler(count: int, shift: float) -> None:
    compare(diffusers.FlowMatchEulerDiscreteScheduler, "flow_euler", count, {"shift": shift})


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("count", [1, 4, 28])
def test_heun_on_a_flow(count: int, shift: float) -> None:
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler(shift=shift)
    net = tiny_net(scheduler, "flow_prediction")
    wanted = theirs(scheduler, net, count)
    config = SchedulerConfig.rectified_flow(shift=shift)
    steps = make_schedule(config).timesteps(count, "heun")
    torch.testing.assert_close(steps.t, scheduler.timesteps[[0, *range(1, 2 * count - 1, 2)]])
    close(ours(config, "heun", net, count), wanted)


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["flow_prediction", "sample"])
@pytest.mark.parametrize("count", [1, 4, 28])
def test_dpmpp_2m_on_a_flow(count: int, kind: str, shift: float) -> None:
    fields = {"use_flow_sigmas": True, "flow_shift": shift, "prediction_type": kind}
    compare(diffusers.DPMSolverMultistepScheduler, "dpmpp_2m", count, fields)


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (diffusers.DDIMScheduler, "ddim"),
        (diffusers.EulerDiscreteScheduler, "euler"),
        (diffusers.HeunDiscreteScheduler, "heun"),
        (diffusers.DPMSolverMultistepScheduler, "dpmpp_2m"),
    ],
)
def test_a_whole_unet(peer: Any, name: str) -> None:
    """Of random weights that believe in no picture: x grows, and is compared at its size."""
    scheduler = peer(prediction_type="v_prediction", **LATENT)
    config = SchedulerConfig.from_json({"_class_name": peer.__name__, **scheduler.config})
    unet = tiny_unet()
    wanted = theirs(scheduler, unet, 5)
    size = float(wanted.abs().max())
    close(ours(config, name, unet, 5) / size, wanted / size)


def test_what_is_written_gives_the_same_sample_in_diffusers(tmp_path: Path) -> None:
    """From our fields to a file, to diffusers' scheduler, to a picture."""
    shared: dict[str, Any] = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction"}
    for number, config in enumerate(
        (
            SchedulerConfig(class_name="DDPMScheduler", clip_sample=True, **shared),
            SchedulerConfig(class_name="DDIMScheduler", rescale_betas_zero_snr=True, **shared),
            SchedulerConfig(class_name="EulerDiscreteScheduler", use_karras_sigmas=True, **shared),
            SchedulerConfig(class_name="EulerAncestralDiscreteScheduler", **shared),
            SchedulerConfig(class_name="HeunDiscreteScheduler", clip_sample=True, **shared),
            SchedulerConfig(class_name="DPMSolverMultistepScheduler", **shared),
            SchedulerConfig(
                class_name="DPMSolverMultistepScheduler", use_karras_sigmas=True, **shared
            ),
            SchedulerConfig.rectified_flow(shift=2.0),
            SchedulerConfig.rectified_flow("sample", shift=2.0),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        config.write(folder / "scheduler_config.json")
        scheduler = getattr(diffusers, config.class_name).from_pretrained(folder)
        net = tiny_net(scheduler, config.prediction_type)
        random = {"generator": None} if config.sampler in ("ddpm", "euler_ancestral") else {}
        close(ours(config, config.sampler, net, 10), theirs(scheduler, net, 10, **random))


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_one_seed_is_one_picture_at_any_batch_size(name: str) -> None:
    flow = name == "flow_euler"
    config = SchedulerConfig.rectified_flow() if flow else SchedulerConfig()
    steps = make_schedule(config).timesteps(8, name)
    own: dict[str, Any] = {"eta": 0.7} if name == "ddim" else {}
    net = tiny_net(None if flow else diffusers.DDPMScheduler(), config.prediction_type)

    def paint(seeds: tuple[int, ...]) -> Tensor:
        noise = Noise(seeds, SHAPE)
        run = SAMPLERS[name](
            net, noise.next(), steps, prediction_type=config.prediction_type, noise=noise, **own
        )
        return [step.x for step in run][-1]

    together = paint((5, 0, 7))
    close(paint((0,)), together[1:2])
    close(paint((7, 5)), together[[2, 0]])
    assert (together[0] - together[1]).abs().max() > 0.1
    assert torch.equal(paint((5, 0, 7)), together)


def test_noise_is_what_diffusers_draws_from_such_generators() -> None:
    from diffusers.utils.torch_utils import randn_tensor

    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
    noise = Noise(SEEDS, SHAPE)
    for _ in range(2):
        assert torch.equal(noise.next(), randn_tensor((3, *SHAPE), generator=generators))


def test_steps_tell_how_far_it_is() -> None:
    steps = run_of(SchedulerConfig(), "ddim", net, 4)
    assert [step.index for step in steps] == [0, 1, 2, 3]
    assert {step.total for step in steps} == {4}
    assert [step.t for step in steps] == [750.0, 500.0, 250.0, 0.0]
    torch.testing.assert_close(steps[-1].x, steps[-1].x0)


def test_a_run_can_be_left_at_any_step() -> None:
    looks: list[float] = []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        looks.append(float(t[0]))
        return net(x, t)

    config = SchedulerConfig()
    steps = make_schedule(config).timesteps(10)
    noise = Noise((1,), SHAPE)
    run = SAMPLERS["ddim"](counted, noise.next(), steps, prediction_type="epsilon", noise=noise)
    assert not looks
    next(run), next(run)
    assert looks == [900.0, 800.0]


def test_a_perfect_network_is_believed() -> None:
    """Where the network knows the picture, every sampler ends on it, from any start."""
    wanted = torch.rand(3, *SHAPE) * 2 - 1
    for name in SAMPLERS:
        config = (
            SchedulerConfig.rectified_flow("sample")
            if name == "flow_euler"
            else SchedulerConfig(prediction_type="sample")
        )
        found = ours(config, name, lambda x, t: wanted, 12)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_solvers_of_higher_order_need_fewer_steps() -> None:
    """Of data that are normal, the solution is known: x_0 is the start times their deviation."""
    spread = 0.5

    def exact(x: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = (level[:, None, None, None] for level in at(t))
        return sigma * x / (alpha**2 * spread**2 + sigma**2)

    config = SchedulerConfig(timestep_spacing="linspace")
    schedule = make_schedule(config)

    def at(t: Tensor) -> tuple[Tensor, Tensor]:
        low = t.floor().clamp(max=998)
        ratio = torch.lerp(
            *(schedule.sigma(s) / schedule.alpha(s) for s in (low, low + 1)), t - low
        )
        alpha = (1 + ratio**2).rsqrt()
        return alpha, ratio * alpha

    def error(name: str, count: int, **own: Any) -> float:
        steps = schedule.timesteps(count, name, **own)
        start = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
        noise = Noise((0,), SHAPE)
        run = SAMPLERS[name](exact, start, steps, prediction_type="epsilon", noise=noise)
        found = [step.x for step in run][-1]
        scale = (steps.alpha[0] ** 2 * spread**2 + steps.sigma[0] ** 2) ** 0.5
        return float((found - start / scale * spread).abs().max())

    karras = {"use_karras_sigmas": True}
    assert error("euler", 80, **karras) == pytest.approx(error("euler", 40, **karras) / 2, rel=0.2)
    assert error("heun", 80, **karras) == pytest.approx(error("heun", 40, **karras) / 4, rel=0.3)
    assert error("heun", 40, **karras) < error("euler", 80, **karras) / 3
    assert error("dpmpp_2m", 40) < error("ddim", 40) / 3


@pytest.mark.parametrize("eta", [-0.1, 1.1, float("nan"), True])
def test_eta_out_of_range(eta: float) -> None:
    with pytest.raises(InputError, match="eta: must be from 0 to 1"):
        ours(SchedulerConfig(), "ddim", net, 4, eta=eta)


def test_a_sampler_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"sampler: there is none named plms; use one of ddpm, "):
        get_sampler("plms")
    assert get_sampler("ddim") is SAMPLERS["ddim"]


@pytest.mark.parametrize("name", ["ddpm", "ddim", "euler_ancestral"])
def test_a_sampler_that_a_flow_has_not(name: str) -> None:
    config = SchedulerConfig.rectified_flow()
    steps = make_schedule(config).timesteps(4, "flow_euler")
    noise = Noise(SEEDS, SHAPE)
    run = SAMPLERS[name](net, noise.next(), steps, prediction_type="flow_prediction", noise=noise)
    with pytest.raises(InputError, match=f"sampler: {name} is not defined for a rectified flow"):
        next(run)


def test_a_models_own_settings() -> None:
    assert SchedulerConfig(class_name="PNDMScheduler").sampler == "dpmpp_2m"
    solver = SchedulerConfig(class_name="DPMSolverMultistepScheduler", use_karras_sigmas=True)
    assert solver.sampler == "dpmpp_2m_karras"
    assert sampler_options(SchedulerConfig(), "euler") == {"correct": None}
    assert sampler_options(SchedulerConfig(clip_sample=True), "euler") == {"correct": None}
    assert sampler_options(solver, "dpmpp_2m_karras") == {
        "correct": None,
        "lower_order_final": True,
        "euler_at_final": False,
    }
