"""The texts of the page The plane, kept together."""

from typing import NamedTuple


class View(NamedTuple):
    """A view of the page: its name, its lead, and its formulas."""

    name: str
    lead: str
    formulas: tuple[str, ...]


VIEWS = {
    "flow": View(
        "Noise to data",
        "Every point is one sample. At each time the denoiser predicts where the point came from, **the mean of all "
        "data it could have been**, and the sampler moves the point a little towards that mean.",
        (
            r"\hat x_0 = \mathbb E[x_0 \mid x_t]",
            r"x_{\text{next}} = \alpha_{\text{next}}\,\hat x_0 + \sigma_{\text{next}}\,\hat\varepsilon",
        ),
    ),
    "learned": View(
        "Learned",
        "Left the exact denoiser, right a network of 12,000 weights that learns while you watch. Its training is plain "
        "regression: **predict the noise and the data from a noisy point**. Move the slider while it learns.",
        (
            r"L = \mathbb E\,\lVert v_\theta(x_t, t) - (\varepsilon - x_0)\rVert^2",
            r"x_t = (1-t)\,x_0 + t\,\varepsilon",
        ),
    ),
    "paths": View(
        "Pairs and flow",
        "Training draws noise and data in **pairs**, and each pair is a line. The lines cross, and at a crossing no "
        "network can know which line to follow. It learns their mean, so the flow bends where the lines cross.",
        (
            r"v(x, t) = \mathbb E[\varepsilon - x_0 \mid x_t = x]",
            r"S = \int_0^1 \mathbb E\,\lVert (x_1 - x_0) - v(x_t, t)\rVert^2\,dt",
        ),
    ),
    "random": View(
        "Random or smooth",
        "Left a sampler that adds fresh noise at each step, right the ordinary differential equation. Single paths "
        "have nothing in common, but **at each time both sets of points have the same distribution**.",
        (
            r"dx = f\,dt + g\,dw",
            r"\frac{dx}{dt} = f - \tfrac12\,g^2\,\nabla \log p_t(x)",
        ),
    ),
    "guidance": View(
        "Guidance",
        "Left the tilted density that guidance is said to sample, noised exactly; right what guided sampling does. "
        "With a large scale the guided points **run past the density**.",
        (
            r"\hat\varepsilon = \varepsilon_{\text{uncond}} "
            r"+ w\,(\varepsilon_{\text{cond}} - \varepsilon_{\text{uncond}})",
            r"p_w(x) \propto p(x \mid c)^{w}\,p(x)^{1-w}",
        ),
    ),
    "gan": View(
        "Beside a GAN",
        "Both learn the same data; here **the slider is the training**. A GAN trains two networks against each "
        "other, and may leave clusters out; the diffusion model is trained by plain regression. Count the clusters.",
        (
            r"\min_G \max_D\ \mathbb E \log D(x_0) + \mathbb E \log(1 - D(G(z)))",
            r"\min_\theta\ \mathbb E\,\lVert v_\theta(x_t, t) - (\varepsilon - x_0)\rVert^2",
        ),
    ),
}
PAIRS = {"independent": "Independent", "transport": "Optimal transport", "rectified": "Rectified"}
OF_PAIRS = {
    "independent": "Each noise is joined to a data point drawn independently of it.",
    "transport": "Within each batch of 128 points, noise and data are paired so that the lines are shortest "
    "(optimal transport). Few lines cross, so the flow is nearly straight.",
    "rectified": "A first flow joins each noise to the point at which its path ends; a second flow learns these pairs.",
}
