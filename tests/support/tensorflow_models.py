"""Writes models with TensorFlow and Keras themselves: trained on digits, and hostile ones. Run by hack/tensorflow's Python.

`python tensorflow_models.py FOLDER` fills FOLDER; answers.npz holds the test set and what Keras answers to it.
"""

import json
import sys
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

L = keras.layers
SEED = 7


def mlp():
    return keras.Sequential(
        [keras.Input((64,), name="pixels"), L.Dense(64, activation="relu"), L.Dense(10, name="logits")], name="mlp"
    )


def cnn():
    image = keras.Input((8, 8, 1), name="image")
    x = L.Activation("relu")(L.BatchNormalization()(L.Conv2D(16, 3, padding="same")(image)))
    x = L.MaxPool2D()(L.Conv2D(16, 3, padding="same", activation="relu")(x))
    return keras.Model(image, L.Dense(10, name="logits")(L.Dropout(0.2)(L.Flatten()(x))), name="cnn")


def lstm():
    return keras.Sequential(
        [
            keras.Input((8, 8), name="rows"),
            L.LSTM(24, return_sequences=True),
            L.Bidirectional(L.LSTM(16)),
            L.Dense(10, name="logits"),
        ],
        name="lstm",
    )


def attention():
    rows = keras.Input((8, 8), name="rows")
    x = L.Dense(16)(rows)
    x = L.LayerNormalization()(x + L.MultiHeadAttention(2, 8)(x, x))
    return keras.Model(
        rows,
        {
            "digit": L.Dense(10, name="digit")(L.Flatten()(x)),
            "size": L.Dense(2, name="size")(L.GlobalMaxPooling1D()(x)),
        },
        name="attention",
    )


def two_inputs():
    left, right = keras.Input((4,), name="left"), keras.Input((3,), name="right")
    return keras.Model({"right": right, "left": left}, L.Dense(5, name="sum")(L.Concatenate()([left, right])))


def train(folder):
    images, labels = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(
        (images / 16).astype(np.float32), labels.astype(np.int64), test_size=0.25, random_state=SEED
    )
    answers = {"labels": y_test}
    for name, make, shape in (("mlp", mlp, (64,)), ("cnn", cnn, (8, 8, 1)), ("lstm", lstm, (8, 8))):
        keras.utils.set_random_seed(SEED)
        model = make()
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x.reshape(-1, *shape), y, epochs=12, batch_size=32, verbose=0)
        answers[name] = x_test.reshape(-1, *shape)
        answers[f"{name}_answers"] = model.predict(answers[name], verbose=0)
        model.save(folder / f"{name}.keras")
        model.save(folder / f"{name}.h5")
        if name != "lstm":
            model.export(folder / name, verbose=False)
            lite = tf.lite.TFLiteConverter.from_saved_model(str(folder / name))
            (folder / f"{name}.tflite").write_bytes(lite.convert())
            lite.optimizations = [tf.lite.Optimize.DEFAULT]
            (folder / f"{name}-small.tflite").write_bytes(lite.convert())
            lite.representative_dataset = lambda rows=answers[name]: ([row[None]] for row in rows[:100])
            (folder / f"{name}-int8.tflite").write_bytes(lite.convert())
    np.savez(folder / "answers.npz", **answers)
    keras.utils.set_random_seed(SEED)
    attention().save(folder / "attention.keras")
    two_inputs().save(folder / "two-inputs.keras")


class Reader(tf.Module):
    """Reads a file and calls Python when it is asked."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x")])
    def serving(self, x):
        read = tf.strings.length(tf.io.read_file("/etc/hostname"))
        called = tf.py_function(lambda v: v * 2, [x], tf.float32)
        return {"y": called + tf.cast(read, tf.float32)}


class Odd(tf.Module):
    """Uses an operator that ONNX has no counterpart for."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4], tf.float32, name="x")])
    def serving(self, x):
        return {"y": tf.linalg.svd(x, compute_uv=False)}


@keras.saving.register_keras_serializable("mine")
class Doubled(L.Layer):
    """A layer of somebody's own."""

    def call(self, x):
        return x * 2


class Subclassed(keras.Model):
    """A model whose inputs are known to nobody but its caller."""

    def __init__(self, **more):
        super().__init__(**more)
        self.dense = L.Dense(2)

    def call(self, x):
        return self.dense(x)


def hostile(folder):
    for name, model in (("reader", Reader()), ("odd", Odd())):
        tf.saved_model.save(model, str(folder / name), signatures=model.serving)
    double = keras.Sequential([keras.Input((4,), name="x"), L.Lambda(lambda x: x * 2, output_shape=(4,)), L.Dense(2)])
    double.save(folder / "lambda.keras")
    double.save(folder / "lambda.h5")
    keras.Sequential([keras.Input((4,), name="x"), Doubled(), L.Dense(2)]).save(folder / "custom.keras")
    plain = keras.Sequential([keras.Input((4,), name="x"), L.Dense(2)])
    plain.save(folder / "plain.keras")
    plain.save(folder / "plain.h5")
    plain.save_weights(folder / "only.weights.h5")
    vocabulary = keras.Sequential([keras.Input((1,), dtype="string"), L.StringLookup(vocabulary=["a", "b"])])
    vocabulary.save(folder / "words.keras")
    rewrite(folder / "words.keras", folder / "reads.keras", lambda text: text.replace('["a", "b"]', '"/etc/passwd"'))
    rewrite(folder / "plain.keras", folder / "module.keras", as_module)
    tables(folder)


def rewrite(source, target, change):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, change(data.decode()) if name == "config.json" else data)


def as_module(text):
    config = json.loads(text)
    config["config"]["layers"][-1] |= {"module": "os", "class_name": "system", "registered_name": None}
    return json.dumps(config)


def tables(folder):
    plain = (folder / "plain.h5").read_bytes()
    for name in ("linked.h5", "external.h5", "bomb.h5", "circle.h5"):
        (folder / name).write_bytes(plain)
    with h5py.File(folder / "linked.h5", "a") as file:
        file["model_weights/more"] = h5py.ExternalLink("/etc/passwd", "/")
    with h5py.File(folder / "external.h5", "a") as file:
        file.create_dataset("more", (16,), "u1", external=[("/etc/passwd", 0, 16)])
    with h5py.File(folder / "bomb.h5", "a") as file:
        file.create_dataset("more", (2**40,), "f4", chunks=(2**20,), compression="gzip", fillvalue=0)
    with h5py.File(folder / "circle.h5", "a") as file:
        file["model_weights/round"] = file["model_weights"]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    train(target)
    hostile(target)
    (target / "complete").touch()
