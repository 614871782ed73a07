"""What is read is data: no pickle and no code, wherever a file comes from."""

import ast

import keras
import pytest

from dist_lstm.errors import UserError
from dist_lstm.train.checkpoint import load_model
from tests.conftest import ROOT

SOURCES = sorted((ROOT / "dist_lstm").rglob("*.py"))
#: Packages that read code or pickles; of YAML, `ruamel.yaml` is used.
EXECUTING = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "runpy", "yaml"}
#: They read Tune's own state, which lies in a folder that nobody else may write; `tune_state` refuses any other.
READING_TUNES_STATE = {"ray_private", "tune_state"}


def test_a_model_that_holds_code_is_refused(tmp_path):
    witness = tmp_path / "ran"
    path = str(witness)
    code = keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1])  # noqa: PTH123
    keras.Sequential([keras.Input((1,)), code]).save(tmp_path / "model.keras")
    witness.unlink(missing_ok=True)
    with pytest.raises(UserError, match="can't be read as a model"):
        load_model(tmp_path / "model.keras")
    assert not witness.exists()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_module_reads_pickles_or_evaluates_text(path):
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            allowed = {"pickle"} if path.stem in READING_TUNES_STATE else set()
            assert not {name.name.split(".")[0] for name in node.names} & (EXECUTING - allowed)
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in EXECUTING
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "compile", "__import__", "pd.read_pickle"}
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert options.get("allow_pickle", "False") == "False"
            assert called != "np.load" or "allow_pickle" in options
            assert options.get("shell", "False") == "False"
            if called == "keras.models.load_model":
                assert options["safe_mode"] == "True"
            assert called != "keras.config.enable_unsafe_deserialization"
            assert called != "YAML" or options["typ"] == "'safe'"
