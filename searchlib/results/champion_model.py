"""The champion as an MLflow model: this file is stored with it, and runs without searchlib.

Beside it lies ``module.pt2``, the network exported by torch.export with its input scaling in front and, for a
classification, softmax behind: code and weights, nothing pickled. The model takes a numpy batch of raw inputs
``[N, *shape]``. Where these are integers (pixels from 0 to 255), floats are taken as raw values divided by their
largest (from 0 to 1, as torchvision's ToTensor makes them). It returns float32 ``[N, classes]``, the soft decisions, or
``[N, outputs]`` of a regression.

A network that torch.export can't export lies here as ``checkpoint.safetensors`` instead, without its code.
"""

import mlflow
import numpy as np
import torch


class Champion(mlflow.pyfunc.PythonModel):
    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        self.shape = tuple(context.model_config["shape"])
        self.scale = float(context.model_config["scale"])
        if "module" not in context.artifacts:
            raise RuntimeError(
                "this champion has no exported program (see the tag searchlib.no_program): load it with "
                "searchlib.result(STUDY).champion"
            )
        self.module = torch.export.load(context.artifacts["module"]).module()

    def predict(
        self, context: mlflow.pyfunc.PythonModelContext, model_input: np.ndarray, params: dict | None = None
    ) -> np.ndarray:
        inputs = np.asarray(model_input)
        if inputs.dtype.kind not in "uif":
            inputs = inputs.astype(np.float32)
        size = int(np.prod(self.shape))
        if inputs.size % size or (inputs.ndim > 1 and inputs[0].size != size and inputs.shape != self.shape):
            raise ValueError(f"expected inputs of shape {[-1, *self.shape]}, got {list(inputs.shape)}")
        values = inputs.reshape(-1, *self.shape).astype(np.float32)
        if inputs.dtype.kind == "f" and self.scale != 1.0:
            if values.size and values.max() > 1.0:
                raise ValueError("expected floats from 0 to 1; give raw values as integers")
            values = values * self.scale
        with torch.no_grad():
            return self.module(torch.from_numpy(values)).numpy()


mlflow.models.set_model(Champion())
