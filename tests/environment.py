"""Loaded before Django's settings: the tests get a data folder of their own, and quiet threads."""

import os
import tempfile

os.environ.setdefault("DATA_FOLDER", tempfile.mkdtemp(prefix="tutelage-tests-"))
os.environ.setdefault("SECRET_KEY", "the-tests-have-a-key-of-their-own-and-it-is-long")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")  # Playwright keeps a loop running beside the live server
