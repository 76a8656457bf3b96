"""Recipes: every shipped one is valid and says what the papers say, and what cannot run is refused with every fault."""

import importlib.util
import subprocess
import sys

import pytest

from distill import recipe
from distill.errors import RecipeError


@pytest.mark.parametrize("name", recipe.shipped())
def test_every_shipped_recipe_is_valid_and_says_where_it_is_from(name):
    loaded = recipe.load(name)
    assert loaded.name == name
    assert loaded.paper and loaded.expected


# name: (syn_steps, expert_epochs, max_start_epoch, lr_img, lr_lr, lr_teacher, batch_syn, zca), as the authors published
MTT = {
    "cifar10-1ipc": (50, 2, 2, 100, 1e-7, 0.01, 0, True),
    "cifar10-10ipc": (30, 2, 20, 100, 1e-5, 0.001, 0, True),
    "cifar10-50ipc": (30, 2, 40, 1000, 1e-5, 0.001, 0, False),
    "cifar100-1ipc": (20, 3, 20, 1000, 1e-5, 0.01, 0, True),
    "cifar100-10ipc": (20, 2, 20, 1000, 1e-5, 0.01, 0, False),
    "cifar100-50ipc": (80, 2, 40, 1000, 1e-5, 0.01, 125, True),
    "tiny-imagenet-1ipc": (10, 2, 10, 1e4, 1e-4, 0.01, 0, False),
    "tiny-imagenet-10ipc": (20, 2, 40, 1e4, 1e-4, 0.01, 200, False),
    "tiny-imagenet-50ipc": (20, 2, 40, 1e4, 1e-4, 0.01, 300, False),
    "imagenette-1ipc": (20, 2, 10, 1000, 1e-6, 0.01, 0, False),
    "imagenette-10ipc": (20, 2, 10, 1000, 1e-6, 0.01, 20, False),
}


@pytest.mark.parametrize("name", MTT)
def test_mtt_recipes_are_the_published_ones(name):
    r = recipe.load(f"mtt-{name}")
    o = r.objective
    assert (
        o.syn_steps, o.expert_epochs, o.max_start_epoch, r.outer.lr_img, o.lr_lr, o.lr_teacher, o.batch_syn,
        r.dataset.preprocess == "zca",
    ) == MTT[name]  # fmt: skip
    assert (r.experts.lr, r.experts.momentum, r.experts.batch, r.experts.epochs) == (0.01, 0, 256, 50)
    assert r.experts.augment.strategies == o.augment.strategies == recipe.DSA


def test_reading_recipes_does_not_import_torch():
    code = "import sys; from distill import recipe; recipe.load('digits'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_kind_has_its_module():
    for folder, union in (
        ("data", recipe.Dataset),
        ("nets", recipe.Network),
        ("synthetic", recipe.SyntheticSettings),
        ("objectives", recipe.ObjectiveSettings),
    ):
        for member in recipe.members(union):
            kind = member.model_fields["kind"].default
            assert importlib.util.find_spec(f"distill.{folder}.{kind}"), kind


def test_all_faults_are_listed_at_once_with_their_paths():
    with pytest.raises(RecipeError) as error:
        recipe.load("digits", ["objective.syn_steps=0", "outer.lr_imgs=1", "evaluation.networks=many", "seed=-1"])
    for path in ("objective.syn_steps", "outer.lr_imgs: unknown key", "evaluation.networks", "seed"):
        assert path in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["objective.max_start_epoch=29"], "beyond experts.epochs = 30"),
        (["objective.segments=3", "outer.workers=2"], "objective.segments must be a multiple"),
        (["objective.widen_from=11", "objective.widen_steps=5"], "widen_from"),
        (["objective.min_start_epoch=10"], "min_start_epoch"),
        (['objective={kind="unrolled", window=9, unroll=3}'], "objective.window = 9"),
        (['objective={kind="unrolled", pool=2, segments=2}', "outer.workers=2"], "objective.pool"),
        (["dataset.kind=pictures"], "dataset"),
        (["outer.lr_img=nan"], "outer.lr_img"),
        (["name=../up"], "name"),
        (["steps"], "dotted.path=value"),
        (["name.x=1"], "name is a value"),
    ],
)
def test_what_cannot_run_is_refused(overrides, named):
    with pytest.raises(RecipeError, match="(?s).*" + named.replace(".", r"\.").replace("+", r"\+")):
        recipe.load("digits", overrides)


def test_unknown_recipe_names_the_shipped_ones():
    with pytest.raises(RecipeError, match="digits"):
        recipe.load("nowhere")


def test_a_file_is_read_and_must_be_toml(tmp_path):
    good, bad = tmp_path / "good.toml", tmp_path / "bad.toml"
    good.write_text('name = "mine"\n[dataset]\nkind = "digits"\n')
    bad.write_text("name = ")
    assert recipe.load(str(good), ["seed=3"]).seed == 3
    with pytest.raises(RecipeError, match="not TOML"):
        recipe.load(str(bad))


def test_dotted_names_are_those_of_overrides():
    assert recipe.dotted({"a": {"b": {"c": 1}, "d": None}, "e": (1, 2)}) == {"a.b.c": 1, "a.d": None, "e": (1, 2)}


def test_run_id_is_of_what_the_result_depends_on():
    base = recipe.load("digits")
    same = recipe.load("digits", ["outer.workers=1", "experts.workers=7", "evaluation.networks=9", "device=cpu"])
    other = recipe.load("digits", ["objective.syn_steps=21"])
    assert base.run_id("data") == same.run_id("data")
    assert len({base.run_id("data"), other.run_id("data"), base.run_id("other data")}) == 3


def test_experts_id_leaves_their_number_out():
    base, more = recipe.load("digits"), recipe.load("digits", ["experts.count=20", "outer.lr_img=1"])
    assert base.experts_id("data") == more.experts_id("data")
    assert base.experts_id("data") != recipe.load("digits", ["experts.lr=0.03"]).experts_id("data")


def test_another_kind_leaves_the_settings_of_the_first_kind_behind():
    r = recipe.load("mtt-cifar10-1ipc", ["network.width=16", "network.kind=resnet", "objective.kind=distribution"])
    assert r.network == recipe.ResNet(width=16, norm="instance")
    assert r.objective == recipe.Distribution()
    assert recipe.load("digits", ["objective={}", "objective.kind=distribution"]).objective == recipe.Distribution()
    with pytest.raises(RecipeError, match="network.dpeth: unknown key"):
        recipe.load("mtt-cifar10-1ipc", ["network.dpeth=2", "network.kind=resnet"])
    with pytest.raises(RecipeError, match="network"):
        recipe.load("mtt-cifar10-1ipc", ["network.kind=resnt"])


@pytest.mark.parametrize(
    ("start", "words", "path", "value"),
    [
        # What both kinds have and was changed stays, whichever way it was changed.
        ("digits", ["objective.kind=unrolled"], "objective.augment.strategies", ("crop", "scale", "rotate")),
        ("digits", ["objective={segments=4}", "objective.kind=distribution"], "objective.segments", 4),
        ("digits", ["objective={distance=\"l1\"}", "objective.kind=distribution"], "objective.distance", "l1"),
        ("poster-digits-05", ["synthetic.kind=canvas"], "synthetic.init", "blend"),
        # A default gives way to the other kind's: siamese augmentation is the default of distribution alone.
        ("digits", ["objective.kind=distribution"], "objective.augment.per_sample", False),
        ("dsa-cifar10-10ipc", ["objective.kind=unrolled"], "objective.augment.per_sample", True),
        ("digits", ["synthetic.init=real", "synthetic.kind=wang", "synthetic.kind=pixels"], "synthetic.init", "real"),
        ("digits", ["synthetic={init=\"real\"}", "synthetic.kind=canvas"], "synthetic.init", "noise"),
        # What the other kind does not have gives way.
        ("poster-digits-05", ["synthetic.kind=pixels"], "synthetic.ipc", 1),
        ("poster-digits-05", ["synthetic.kind=pixels"], "synthetic.init", "real"),
        ("digits", ["synthetic={labels={mode=\"expert\"}}", "synthetic.kind=poster"], "synthetic.labels.mode", "fixed"),
        # The same name for something else: 256 images per class are not 256 in all.
        ("dsa-cifar10-10ipc", ["objective.kind=unrolled"], "objective.batch_real", 5000),
        ("digits", ["objective={kind=\"unrolled\", batch_real=9}", "objective.kind=distribution"],
         "objective.batch_real", 64),
        ("digits", ["synthetic={kind=\"canvas\", height=9, width=9}", "synthetic.kind=poster"], "synthetic.height", 0),
        # What is said for the new kind counts, in whichever order.
        ("digits", ["objective.batch_real=9", "objective.kind=unrolled"], "objective.batch_real", 9),
        ("digits", ["synthetic.init=real", "synthetic.kind=canvas"], "synthetic.init", "real"),
        ("digits", ["synthetic.kind=canvas", "synthetic={}"], "synthetic.kind", "canvas"),
    ],
)  # fmt: skip
def test_another_kind_keeps_what_was_changed_and_means_the_same(start, words, path, value):
    made = recipe.load(start, words)
    for part in path.split("."):
        made = getattr(made, part)
    assert made == value


def test_an_augmentation_that_names_some_settings_leaves_the_others_to_the_objective():
    siamese = recipe.load("digits", ["objective.kind=distribution", 'objective.augment={strategies=["flip"]}'])
    assert siamese.objective.augment == recipe.Distribution().augment.model_copy(update={"strategies": ("flip",)})
    turned = recipe.load("digits", ["objective={augment={rotate_degrees=30}}"]).objective.augment
    assert turned.strategies == recipe.DSA and turned.rotate_degrees == 30 and turned.per_sample


def test_what_is_wrong_with_the_first_kind_is_not_hidden_by_another():
    with pytest.raises(RecipeError, match="synthetic.init.*nosie"):
        recipe.load("digits", ['synthetic={init="nosie"}', "synthetic.kind=poster"])


def rate(r):
    return r.outer.optimizer, r.outer.lr_img


def test_defaults_of_the_outer_loop_are_those_of_the_objective(tmp_path):
    mine = tmp_path / "mine.toml"
    mine.write_text('name = "mine"\ndataset.kind = "digits"\nobjective.kind = "distribution"\n')
    r = recipe.load(str(mine))
    assert rate(r) == ("adam", 0.05) and r.outer.steps == 1000
    assert rate(recipe.load(str(mine), ["outer.optimizer=sgd"])) == ("sgd", 1.0)
    assert rate(recipe.load(str(mine), ["outer.optimizer=adam"])) == ("adam", 0.05)
    assert rate(recipe.load(str(mine), ["outer.lr_img=3"])) == ("sgd", 3.0)  # as a rate without an optimiser always was
    assert recipe.load(str(mine), ["outer.steps=7"]).outer.steps == 7
    assert rate(recipe.load(str(mine), ["objective.kind=trajectory"])) == ("sgd", 100.0)


def test_another_objective_drops_the_rate_that_was_chosen_for_the_first():
    assert rate(recipe.load("digits", ["objective.kind=distribution"])) == ("adam", 0.05)
    assert recipe.load("digits", ["objective.kind=distribution"]).outer.steps == 160
    assert rate(recipe.load("digits", ["outer.lr_img=3", "objective.kind=distribution"])) == ("sgd", 3.0)
    assert rate(recipe.load("digits", ["objective.kind=unrolled"])) == ("sgd", 10.0)
    stored = recipe.load("digits", ["objective.kind=distribution"]).model_dump(mode="json")
    assert rate(recipe.override(stored, ["objective.batch_real=8"], "test")) == ("adam", 0.05)
    assert rate(recipe.override(stored, ["objective.kind=distribution"], "test")) == ("adam", 0.05)
    assert rate(recipe.override(stored, ["objective.kind=unrolled"], "test")) == ("sgd", 100.0)


def test_a_block_that_names_no_kind_is_of_the_usual_one(tmp_path):
    (tmp_path / "mine.toml").write_text('name = "mine"\ndataset.kind = "digits"\n')
    mine = recipe.load(str(tmp_path / "mine.toml"), ["synthetic.ipc=10", "network.depth=2", "objective.syn_steps=3"])
    assert (mine.synthetic.kind, mine.network.kind, mine.objective.kind) == ("pixels", "convnet", "trajectory")
    assert (mine.synthetic.ipc, mine.network.depth, mine.objective.syn_steps) == (10, 2, 3)


# ---------------------------------------------------------------- experts, as the recipe alone tells


@pytest.mark.parametrize(
    ("overrides", "use", "needed"),
    [
        ([], "required", 10),
        (["objective.kind=distribution"], "none", 0),
        (["objective.kind=distribution", "objective.features=experts"], "required", 10),
        (["objective.kind=unrolled", "synthetic.init=herding"], "preferred", 0),
        (["objective.kind=unrolled", "synthetic.init=forgetting"], "required", 3),
        (["objective.kind=distribution", "synthetic.labels.mode=expert", "experts.count=50"], "required", 10),
        (["objective.kind=distribution", "synthetic.labels.mode=expert", "experts.count=4"], "required", 4),
        (["synthetic={}", "synthetic.kind=poster", "objective.kind=unrolled"], "none", 0),
        (["synthetic.init=herding"], "required", 10),
    ],
)
def test_a_recipe_knows_whether_it_needs_experts_and_how_many(overrides, use, needed):
    digits = recipe.load("digits", overrides)
    assert (digits.expert_use, digits.experts_needed) == (use, needed)


def test_groups_of_experts_are_trained_whole():
    labels = ["objective.kind=distribution", "synthetic.labels.mode=expert"]
    assert recipe.load("digits", [*labels, "experts.count=16", "experts.together=4"]).experts_needed == 12


def test_runs_of_more_steps_are_of_one_lineage():
    short, long, other = (recipe.load("digits", o) for o in (["outer.steps=5"], ["outer.steps=9"], ["outer.lr_img=3"]))
    assert short.lineage("data") == long.lineage("data") != other.lineage("data")
    assert short.run_id("data") == f"{short.lineage('data')}-5" and len(short.run_id("data")) <= 63


@pytest.mark.parametrize(("ipc", "steps", "epoch", "lr", "lr_lr"), [(1, 50, 2, 0.01, 1e-7), (10, 30, 20, 0.001, 1e-5)])
def test_haba_recipes_are_the_published_ones(ipc, steps, epoch, lr, lr_lr):
    r = recipe.load(f"haba-cifar10-{ipc}ipc")
    s, o = r.synthetic, r.objective
    shape = (s.kind, s.ipc, s.hallucinators, s.channels, s.lr_hallucinator, s.contrast)
    assert shape == ("factorized", ipc, 5, 0, 100, 0) and (s.optimizer, s.start, s.pairs) == ("sgd", "random", 1)
    assert (o.syn_steps, o.max_start_epoch, o.lr_teacher, o.lr_lr) == (steps, epoch, lr, lr_lr)
    assert (r.outer.steps, r.outer.lr_img, r.outer.momentum) == (15000, 100, 0.95)


def test_the_datm_recipe_widens_its_range_and_learns_labels_from_experts():
    r = recipe.load("datm-cifar10-10ipc")
    o, y = r.objective, r.synthetic.labels
    assert (o.syn_steps, o.min_start_epoch, o.widen_from, o.max_start_epoch, o.widen_steps) == (80, 0, 10, 20, 1000)
    assert (y.mode, y.init, y.lr) == ("learned", "expert", 2.0) and r.outer.steps == 10000
    assert r.experts_needed == 100


# name: (ipc, outer_loop, inner_loop, outer steps of 1000 networks, init, strategies, epochs), as the authors published
GRADIENT = {
    "dc-cifar10-1ipc": (1, 1, 1, 1000, "noise", (), 300),
    "dsa-cifar10-10ipc": (10, 10, 50, 10000, "real", recipe.DSA, 1000),
}


@pytest.mark.parametrize("name", GRADIENT)
def test_gradient_recipes_are_the_published_ones(name):
    r = recipe.load(name)
    o, e = r.objective, r.evaluation
    ipc, outer, inner, steps, init, strategies, epochs = GRADIENT[name]
    assert (r.synthetic.ipc, o.outer_loop, o.inner_loop, r.outer.steps) == (ipc, outer, inner, steps)
    assert recipe.Gradient().loops(ipc) == (outer, inner), "what a recipe that leaves them out gets"
    assert (r.synthetic.init, o.augment.strategies, e.augment.strategies, e.epochs) == (
        init, strategies, strategies, epochs
    )  # fmt: skip
    assert (o.batch_real, o.batch_train, o.lr_net, r.outer.lr_img, r.outer.momentum) == (256, 256, 0.01, 0.1, 0.5)
    assert (e.lr, e.momentum, e.weight_decay, r.dataset.preprocess) == (0.01, 0.9, 5e-4, "standardize")


def test_the_recipe_of_at_bptt_is_the_published_one():
    o = recipe.load("at-bptt-cifar10-10ipc").objective
    assert (o.automatic, o.window, o.window_change, o.unroll, o.batch_real) == (True, 40, 10, 200, 5000)
    assert (o.stage_gains, o.stage_patience, o.redraw_every) == ((1.5, 1.0), (30, 25), 10)


@pytest.mark.parametrize(("ipc", "lr"), [(1, 0.0005), (10, 0.005), (50, 0.025)])
def test_idc_recipes_have_four_images_in_each_and_the_published_rates(ipc, lr):
    r = recipe.load(f"idc-cifar10-{ipc}ipc")
    s, o = r.synthetic, r.objective
    assert (s.kind, s.ipc, s.factor) == ("pixels", ipc, 2) and r.outer.lr_img == pytest.approx(lr)
    assert (o.kind, o.distance, o.batch_real, o.outer_loop, o.inner_loop) == ("gradient", "l2", 64, 100, 1)
    assert r.outer.steps == 2000 * o.outer_loop and r.outer.momentum == 0.5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('name="My Photos"', "at most 63 of them, the first a letter or digit: 'my-photos'"),
        ('name="--"', "the first a letter or digit: 'mine'"),
        ('device="gpu"', "device: use auto, cpu, cuda or cuda:0, cuda:1, ...; a GPU is cuda, or cuda:0 for the first"),
        ("objective.trajectories=My Experts", "objective.trajectories: use a-z, 0-9, - and _"),
        ("synthetic.init=herdin", "synthetic.init: use real, noise, herding, kmeans-nearest,"),
        ("synthetic.init=file:", "entropy-high, entropy-low or file:PATH (got 'file:')"),
        ('device="tpu"', "device: use auto, cpu, cuda or cuda:0, cuda:1, ... (got 'tpu')"),
    ],
)
def test_names_and_devices_are_explained_in_words(given, said):
    with pytest.raises(RecipeError) as error:
        recipe.load("digits", [given])
    assert said in str(error.value) and "pattern" not in str(error.value) and "^" not in str(error.value)


def test_a_recipe_that_is_not_there_comes_with_the_nearest():
    with pytest.raises(RecipeError, match=r"no recipe 'mtt-cifar-1ipc' \(did you mean mtt-cifar10"):
        recipe.load("mtt-cifar-1ipc")


@pytest.mark.parametrize("outer, rate", [({}, 0.1), ({"optimizer": "adam"}, 0.05), ({"lr_img": 3.0}, 3.0)])
def test_gradient_matching_has_a_rate_of_its_own(outer, rate):
    table = {"name": "x", "dataset": {"kind": "digits"}, "objective": {"kind": "gradient"}, "outer": outer}
    assert recipe.parse(table, "x").outer.lr_img == rate
    changed = recipe.load("digits", ["objective.kind=gradient", *(f"outer.{k}={v}" for k, v in outer.items())])
    assert changed.outer.lr_img == rate


def test_learned_labels_are_learned_at_some_rate_unless_it_is_said_to_be_zero():
    """A poster's recipe with one word changed has learned labels without a rate of their own."""
    for overrides, rate in (([], 1e-3), (["synthetic.labels.lr=0"], 0.0), (["synthetic.labels.lr=0.5"], 0.5)):
        made = recipe.load("podd-cifar10-05", ["synthetic.kind=pixels", "synthetic.ipc=1", *overrides])
        assert (made.synthetic.labels.mode, made.synthetic.labels.lr) == ("learned", rate)
    assert recipe.Labels().lr == 0


def test_memory_of_the_engine_is_a_size_and_changes_no_run():
    made = {text: recipe.load("digits", [f"objective.engine.memory={text}"]) for text in ("auto", "0", "2GB", "512MiB")}
    assert [r.objective.engine.memory for r in made.values()] == ["auto", 0, 2_000_000_000, 2**29]
    assert len({r.run_id("data") for r in made.values()}) == 1
    with pytest.raises(RecipeError, match=r"objective\.engine\.memory"):
        recipe.load("digits", ["objective.engine.memory=much"])
