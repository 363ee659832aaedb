"""Pages and pictures go out compressed; downloads stream as they are."""

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

COMPRESSED = {"text/html", "image/svg+xml"}


class Compression(GZipMiddleware):
    """Django's, for what is small and a person waits for.

    It adds a random number of bytes, and the CSRF token is masked anew in each page, so that sizes tell nothing of
    what a page holds. Exports and weights would cost minutes of a web worker, and are packed already.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        kind = response.get("Content-Type", "").partition(";")[0]
        if response.streaming or kind not in COMPRESSED:
            return response
        return super().process_response(request, response)
