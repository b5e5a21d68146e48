"""A model's way from its publisher to your program, all of it on this machine.

Makes a small text embedding, hosts it as a model host does, loads it by its URL, and loads it
again when the host is gone. Run it with `make demo`, or `python examples/quickstart.py`.
"""

import io
import os
import tarfile
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported: it is talkative

import tensorflow as tf

import tfhub_cache as hub

PAGE = "/demo/text-embedding/1"
SENTENCES = ["hello world", "hello tensorflow", "something else"]


class TextEmbedding(tf.Module):
    """Looks words up in a vocabulary file and averages their vectors."""

    def __init__(self, vocabulary_file: str, words: int) -> None:
        super().__init__()
        entries = tf.lookup.TextFileInitializer(
            vocabulary_file,
            key_dtype=tf.string,
            key_index=tf.lookup.TextFileIndex.WHOLE_LINE,
            value_dtype=tf.int64,
            value_index=tf.lookup.TextFileIndex.LINE_NUMBER,
        )
        # One row more than there are words: for all the words that are not in the file.
        self.vocabulary = tf.lookup.StaticVocabularyTable(entries, num_oov_buckets=1)
        self.embedding = tf.Variable(tf.random.stateless_normal([words + 1, 4], seed=[1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, sentences: tf.Tensor) -> tf.Tensor:
        words = tf.strings.split(sentences)
        rows = tf.ragged.map_flat_values(self.vocabulary.lookup, words)
        return tf.reduce_mean(tf.gather(self.embedding, rows), axis=1)


def publish(folder: Path) -> bytes:
    """Saves a model into a folder, and packs it as hosts want it."""
    words = ["hello", "world", "tensorflow"]
    vocabulary_file = folder.with_name("vocabulary.txt")
    vocabulary_file.write_text("\n".join(words))

    model = TextEmbedding(str(vocabulary_file), len(words))
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.__call__})

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(folder, arcname=".")
    return archive.getvalue()


def host(archive: bytes) -> ThreadingHTTPServer:
    """Serves a model's URL: a page for people, an archive for programs that ask for it."""

    class ModelPage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == f"{PAGE}?tf-hub-format=compressed":
                self.answer("application/gzip", archive)
            else:
                self.answer("text/html", b"<h1>A text embedding</h1>")

        def answer(self, content_type: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            print(f"   host: {self.requestline}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), ModelPage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["TFHUB_CACHE_DIR"] = str(folder / "cache")

        print("1. A publisher makes a model and hosts it")
        server = host(publish(folder / "model"))
        url = f"http://127.0.0.1:{server.server_port}{PAGE}"
        print(f"   {url}")

        print("\n2. You load it by its URL")
        model = hub.load(url)
        for sentence, vector in zip(SENTENCES, model(tf.constant(SENTENCES)).numpy(), strict=True):
            print(f"   {sentence:18}{vector.round(3)}")
        print(f"   It is in the cache now: {hub.resolve(url)}")

        server.shutdown()
        server.server_close()
        print("\n3. The host is gone, and the model loads all the same")
        again = hub.load(url)
        signature = again.signatures["serving_default"]
        (vectors,) = signature(tf.constant(SENTENCES)).values()
        print(f"   {SENTENCES[0]:18}{vectors.numpy()[0].round(3)}")


if __name__ == "__main__":
    main()
