"""Published generators: fabricated pickles of every structure give the images of the weights in them."""

import pickle

import pytest
import torch
from support.nvidia_pickles import module, snapshot, stylegan2, stylegan3
from torch import nn

from distill.errors import DataError
from distill.generators import load_embeddings, load_generator
from distill.generators import pickles as reading
from distill.nets import stylegan2 as sg2
from distill.nets.stylegan_xl import StyleGANXL, grow, plan


def g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def xl(classes: int = 3, projected: bool = True, radial: bool = False) -> StyleGANXL:
    layers = plan(8, 3, 32, 3)
    layers = [layer._replace(kernel=1, radial=True) for layer in layers] if radial else layers
    dim = 5 if projected else 4
    network = StyleGANXL(layers, classes, 6, 4, 2, dim, projected, generator=g())
    return trained(network)


def trained(network: nn.Module) -> nn.Module:
    """With other values than fresh ones wherever those are zero or one."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor.is_floating_point() and tensor.unique().numel() <= 2 and tensor.numel():
            tensor.data.add_(0.3 * torch.rand(tensor.shape, generator=g(1)))
    if isinstance(network, StyleGANXL) and network.mapping.projection is None:
        network.mapping.w_avg[:] = network.mapping.w_avg[0].clone()
    return network


def ada(classes: int = 3, clamp: float | None = 256.0) -> sg2.Generator:
    return trained(sg2.Generator(sg2.Size(16, 3, classes, 6, 4, 2, 64, 8, clamp=clamp)).initialise(g()))


STRUCTURES = {
    "StyleGAN2-ADA": (lambda: ada(), lambda net: stylegan2(net)),
    "StyleGAN2 of the stylegan3 repository": (lambda: ada(0, None), lambda net: stylegan2(net, nested=False)),
    "StyleGAN3-T": (lambda: xl(0), stylegan3),
    "StyleGAN3-T with classes": (lambda: xl(3, projected=False), stylegan3),
    "StyleGAN3-R": (lambda: xl(0, radial=True), stylegan3),
    "StyleGAN-XL": (lambda: xl(3), stylegan3),
    "a later stage of StyleGAN-XL": (lambda: trained(grow(xl(3), 16, 3, g(2), 32, 3)), stylegan3),
}


@pytest.fixture
def canary(tmp_path):
    """A file that whatever runs would write."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists()


def written(path, data: bytes):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("name", STRUCTURES)
def test_every_published_structure_gives_the_images_of_its_weights(name, protocol, tmp_path, canary):
    make, their = STRUCTURES[name]
    network = make().requires_grad_(False)
    generator = load_generator(written(tmp_path / "g.pkl", snapshot(their(network), canary, protocol)))
    classes, z_dim = generator.classes, generator.z_dim
    size = getattr(network, "size", None)
    assert (classes, z_dim) == ((size.classes, size.z) if size else (network.classes, network.z_dim))
    assert generator.resolution == (size.resolution if size else network.resolution)
    assert not any(p.requires_grad for p in generator.parameters())
    z, labels = generator.latents(4, g(5)), torch.tensor([0, 1, 2, 1]) if classes else None
    for truncation in (1.0, 0.5):
        noise = {"noise": network.constant_noise()} if size else {}
        expected = network(z, labels, truncation=truncation, **noise)
        images = generator(z, labels, truncation)
        assert images.shape == (4, 3, generator.resolution, generator.resolution) and images.std() > 1e-3
        # class embeddings without a projection are stored with the scale of a linear layer
        assert torch.equal(images, expected) or (
            name == "StyleGAN3-T with classes" and torch.allclose(images, expected, atol=1e-5)
        )


@pytest.mark.parametrize("name", ["StyleGAN2-ADA", "StyleGAN3-T", "StyleGAN-XL"])
def test_a_published_generator_is_a_set_for_training(name, tmp_path, canary):
    make, their = STRUCTURES[name]
    generator = load_generator(written(tmp_path / "g.pkl", snapshot(their(make()), canary)))
    published = generator.published(per_class=2)
    published.check("g.pkl")
    sampler, images = published.stored, published.images
    assert len(published) == 2 * max(generator.classes, 1) == len(published.classes) * 2
    assert images.shape[1:] == (3, *2 * [generator.resolution]) and torch.equal(published.labels, sampler.y)
    assert sampler.between(torch.tensor([0]), (0, 1), 2).shape == (2, 1, *images.shape[1:])
    if name != "StyleGAN2-ADA":  # which draws noise too
        z = generator.latents(len(sampler), torch.Generator().manual_seed(0))
        assert torch.allclose(images, generator(z, sampler.y.argmax(1)) / 2 + 0.5, atol=1e-6)


def test_discriminators_of_other_packages_are_passed_over(tmp_path, canary):
    """Their modules may be of any kind of torch's, and share tensors."""
    d = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ModuleList([nn.GELU()]))
    d.register_forward_hook(torch.nn.functional.relu)
    data = snapshot(stylegan3(xl()), canary, D=d, progress={"cur_nimg": torch.LongTensor([3])})
    assert load_generator(written(tmp_path / "g.pkl", data)).classes == 3


def test_arrays_and_types_as_dill_writes_them():
    array = b"cdill._dill\n_create_array\n(cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01bt"
    array += b"(K\x01K\x02\x85cnumpy\ndtype\n(X\x02\x00\x00\x00i8K\x00K\x01tR"
    array += (
        b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89C\x10"
        + (36).to_bytes(8, "little") * 2
        + b"tNtR"
    )
    types = b"cdill._dill\n_load_type\nX\x0b\x00\x00\x00OrderedDict\x85R)R"
    parts = reading.read_pickle(b"\x80\x03}(X\x01\x00\x00\x00a" + array + b"X\x01\x00\x00\x00b" + types + b"u.", "f")
    assert parts["b"] == {} and parts["a"].value.tolist() == [36, 36]
    assert reading.Part("P", {"size": parts["a"]}).number("size") == 36


def test_class_embeddings(tmp_path):
    table = torch.randn(10, 4)
    for protocol in (2, 4):
        data = pickle.dumps({"embed": nn.Embedding.from_pretrained(table)}, protocol)
        assert torch.equal(load_embeddings(written(tmp_path / "e.pkl", data)), table)
    with pytest.raises(DataError, match="e.pkl: has no class embeddings; use in_embeddings"):
        load_embeddings(written(tmp_path / "e.pkl", pickle.dumps({"embed": 3})))
    with pytest.raises(DataError, match="no such file"):
        load_embeddings(tmp_path / "other.pkl")


def test_tensors_of_other_types_and_layouts(tmp_path, canary):
    """Half precision, transposed, and a part of a larger storage."""
    net = xl(0)
    net.mapping.layers[0].weight.data = net.mapping.layers[0].weight.data.half().float()
    their = stylegan3(net)
    first, second = (their._modules["mapping"]._modules[name]._parameters for name in ("fc0", "fc1"))
    first["weight"] = nn.Parameter(first["weight"].detach().half())
    second["weight"] = nn.Parameter(second["weight"].detach().T.contiguous().T)
    second["bias"] = nn.Parameter(torch.stack([torch.zeros(4), second["bias"].detach()])[1])
    generator = load_generator(written(tmp_path / "g.pkl", snapshot(their, canary)))
    z = torch.randn(2, 6)
    assert torch.allclose(generator(z), net(z), atol=1e-6) and generator(z).dtype == torch.float32


# ---------------------------------------------------------------- what users can fix


def test_another_resolution_or_number_of_classes_than_the_datasets(tmp_path, canary):
    path = written(tmp_path / "g.pkl", snapshot(stylegan3(xl()), canary))
    assert load_generator(path, resolution=8, classes=3).resolution == 8
    with pytest.raises(DataError, match="g.pkl: makes images of 8 px, not 32; use a generator of 32 px"):
        load_generator(path, resolution=32)
    with pytest.raises(DataError, match="g.pkl: has 3 classes, not 10; use a generator of this dataset's classes"):
        load_generator(path, classes=10)
    with pytest.raises(ValueError, match="has 3 classes: give the labels"):
        load_generator(path)(torch.randn(1, 6))


def test_files_without_a_whole_generator(tmp_path, canary):
    path = tmp_path / "g.pkl"
    with pytest.raises(DataError, match="g.pkl: no such file"):
        load_generator(path)
    data = snapshot(None, canary)
    with pytest.raises(DataError, match="has no G_ema, only D, G, G_ema, .*; use a snapshot of a whole training run"):
        load_generator(written(path, data))
    with pytest.raises(DataError, match="holds a list, not the parts"):
        load_generator(written(path, pickle.dumps([1])))
    torch.save({}, path)
    with pytest.raises(DataError, match="an archive of torch.save, .*use the .pkl of its authors"):
        load_generator(path)
    with pytest.raises(DataError, match="of TensorFlow; convert it with legacy.py"):
        load_generator(written(path, b"\x80\x03cdnnlib.tflib.network\nNetwork\n."))
    with pytest.raises(DataError, match="g.pkl: (damaged|the pickle ends early)"):
        load_generator(written(path, snapshot(stylegan3(xl()), canary)[:-1000]))


class Stranger:
    pass


CHANGED = {
    "an unknown class": (lambda their: Stranger(), "name '.*Stranger', which no published generator has"),
    "another network": (lambda their: module("FastGAN"), "G_ema is a 'FastGAN' of another architecture; supported are"),
    "a class of torch": (lambda their: nn.Linear(2, 2), "G_ema is a 'Linear' of another architecture"),
    "a layer less": (lambda their: _without(their, "synthesis", 3), "does not fit together"),
    "no mapping layer": (lambda their: _without(their, "mapping", -1), "without fc1.weight"),
    "another resolution than said": (lambda their: _set(their, "img_resolution", 16), "make images of 8 px, its set"),
    "another filter": (lambda their: _filter(their, 1.01), "has another up_filter than the one of its cutoffs"),
    "no filter": (lambda their: _filter(their, None), "lacks its up_filter"),
    "another scale": (lambda their: _set(their, "output_scale", 1.0), "another scale"),
    "a number as text": (lambda their: _set(their, "z_dim", "6"), "no number 'z_dim'"),
    "a number that is none": (lambda their: _set(their, "z_dim", float("nan")), "no number 'z_dim'"),
    "a huge size": (lambda their: _layers(their, "out_size", 10**8), "a size of its generator|impossible"),
    "many classes": (lambda their: _set(their, "c_dim", 10**8), "with 100000000 classes"),
}  # fmt: skip


def _without(their, part, index):
    modules = their._modules[part]._modules
    del modules[list(modules)[index]]
    return their


def _set(their, name, value):
    (their if name in their.__dict__ else their._modules["synthesis"]).__dict__[name] = value
    return their


def _layers(their, name, value):
    for layer in list(their._modules["synthesis"]._modules.values())[1:]:
        layer.__dict__[name] = value
    return their


def _filter(their, factor):
    layer = list(their._modules["synthesis"]._modules.values())[1]
    layer._buffers["up_filter"] = None if factor is None else layer.up_filter * factor
    return their


@pytest.mark.parametrize("name", CHANGED)
def test_what_is_no_generator_of_these_is_named(name, tmp_path, canary):
    change, message = CHANGED[name]
    path = written(tmp_path / "g.pkl", snapshot(change(stylegan3(xl())), canary))
    with pytest.raises(DataError, match=f"g.pkl: .*({message})"):
        load_generator(path)


def test_stylegan2_with_residual_connections_is_named(tmp_path, canary):
    path = written(tmp_path / "g.pkl", snapshot(stylegan2(ada(), architecture="resnet"), canary))
    with pytest.raises(DataError, match="architecture 'resnet': only 'skip'"):
        load_generator(path)
    their = stylegan2(ada())
    their._modules["synthesis"]._modules["b8"]._modules["conv0"]._parameters.pop("noise_strength")
    with pytest.raises(DataError, match="its generator lacks synthesis.b8.conv0.noise_strength"):
        load_generator(written(path, snapshot(their, canary)))
