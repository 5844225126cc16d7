"""One call by boto3: `ask.py URL SERVICE OPERATION PARAMS`; prints the answer as JSON, or the error's code on standard error."""

import json
import sys

import client
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

service, operation, params = sys.argv[2:5]
try:
    answer = getattr(client.client(service), xform_name(operation))(**json.loads(params))
except ClientError as error:
    sys.exit(error.response["Error"]["Code"])
except (BotoCoreError, ResponseParserError) as error:
    sys.exit(type(error).__name__)
answer.pop("ResponseMetadata", None)
print(json.dumps(answer, default=str))
