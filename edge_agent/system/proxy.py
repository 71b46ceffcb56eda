"""The proxy that the environment names: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, also in lower case."""

import urllib.request
from urllib.parse import urlsplit


def proxy_for(url: str) -> str | None:
    """The address of the proxy for a request, which may hold credentials; None: the request goes out directly.

    As in most programs, lower case goes before upper case, and NO_PROXY lists hosts and domains, or is `*`.

    Args:
        url: what is requested.
    """
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname:
        return None
    # With and without the port: NO_PROXY may name either.
    if any(map(urllib.request.proxy_bypass, (parts.netloc.rpartition("@")[2], parts.hostname))):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
