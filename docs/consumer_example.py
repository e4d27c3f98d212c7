"""Follows what pmsync tells other programs on Kafka: python docs/consumer_example.py HOST:PORT [PREFIX]."""

import json
import sys
from collections import deque

from kafka import KafkaConsumer

servers, prefix = sys.argv[1], "".join(sys.argv[2:])
topics = (f"{prefix}pmsync.metrics", f"{prefix}pmsync.alerts")
options = {"group_id": "my-dashboard", "auto_offset_reset": "earliest", "enable_auto_commit": False}
consumer = KafkaConsumer(*topics, bootstrap_servers=servers, **options)
seen: deque[str] = deque(maxlen=10_000)  # a repeat follows soon, with the same id
while True:
    for record in (each for records in consumer.poll(timeout_ms=1000).values() for each in records):
        if record.value is None:
            print(f"{record.key.decode()} is gone", flush=True)  # forget its figures
            continue
        event = json.loads(record.value)
        data = event["data"]
        if event["id"] in seen:
            continue
        seen.append(event["id"])
        if event["type"] == "pmsync.metrics.v1":  # another major version is another type
            chances = {each["title"]: each["on_time"] for each in data["deadlines"]}
            print(f"{data['project']}: {data['done']} of {data['scope']} done, on time: {chances}", flush=True)
        elif event["type"] == "pmsync.alert.v1":
            print(f"{data['project']} {data['fingerprint']} {data['n']} {data['state']}", flush=True)
    consumer.commit()  # after the work, so that nothing is missed
