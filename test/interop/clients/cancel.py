"""Cancels tasks with the standard library: cancel.py OPEN COMPLETE. Prints each status, and what the body states."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.request

GATEWAY = os.environ["GATEWAY_URL"]
AUTHORITY = os.environ.get("GATEWAY_CA")
CONTEXT = ssl.create_default_context(cafile=AUTHORITY) if AUTHORITY else None


def send(method, path, **headers):
    headers["X-API-Key"] = os.environ["GATEWAY_API_KEY"]
    request = urllib.request.Request(GATEWAY + path, method=method, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=20, context=CONTEXT)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return response, json.load(response)


def cancel(task_no):
    response, body = send("DELETE", f"/tasks/{task_no}")
    retry_after = response.headers.get("Retry-After", "")
    print(response.status, body.get("code") or body["cancelStatus"], retry_after)
    return body.get("cancellationId")


open_task, complete_task = sys.argv[1:]
cancellation_id = cancel(open_task)
while True:
    response, record = send("GET", f"/cancellations/{cancellation_id}", Prefer="wait=10")
    if record["isFinal"]:
        break
print(response.status, record["outcome"])
cancel("absent")
cancel(complete_task)
cancel(open_task)
print(f"HTTP/{response.version / 10}")
