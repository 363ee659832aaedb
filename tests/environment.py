"""Loaded before Django's settings: the tests get a data folder of their own, and quiet threads."""

import atexit
import os
import shutil
import tempfile

if "DATA_FOLDER" not in os.environ:
    os.environ["DATA_FOLDER"] = tempfile.mkdtemp(prefix="tutelage-tests-")
    atexit.register(shutil.rmtree, os.environ["DATA_FOLDER"], ignore_errors=True)
os.environ.setdefault("SECRET_KEY", "the-tests-have-a-key-of-their-own-and-it-is-long")
os.environ.setdefault("REQUIRE_SECOND_FACTOR", "0")  # tests/annotation/test_second_factor.py switches it on
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # Playwright keeps a loop running beside the live server
