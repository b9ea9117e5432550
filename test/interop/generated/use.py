"""Uses the generated client: use.py TASK. Prints the status of the cancellation, its outcome, and a problem."""

import json
import os
import sys

import openapi_client

configuration = openapi_client.Configuration(
    host=os.environ["GATEWAY_URL"], api_key={"X-API-Key": os.environ["GATEWAY_API_KEY"]}
)
with openapi_client.ApiClient(configuration) as client:
    tasks = openapi_client.TasksApi(client)
    result = tasks.cancel_task(sys.argv[1])
    print(result.cancel_status)
    record = openapi_client.AuditTrailApi(client).get_cancellation(result.cancellation_id)
    print(record.outcome, record.settled_by)
    try:
        tasks.cancel_task("absent")
    except openapi_client.ApiException as error:
        print(error.status, json.loads(error.body)["code"])
