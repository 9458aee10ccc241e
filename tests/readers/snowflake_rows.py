"""Reads the registry's tables with the official Snowflake connector: NDJSON, one object a row, in key order.

Usage: snowflake_rows.py PORT DATABASE SCHEMA TABLE:KEY,KEY...
Not our client and not our protocol: what it sees is what any tool of a warehouse user sees.
"""

import datetime
import decimal
import json
import sys

import snowflake.connector


TIMESTAMP_NTZ = 8


def cell(value, is_time):
    if is_time and value is not None:
        return datetime.datetime.fromisoformat(value).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, decimal.Decimal):
        return int(value)
    return value


def main():
    port, database, schema, *tables = sys.argv[1:]
    connection = snowflake.connector.connect(
        user="reader", password="reader", account="peer", host="127.0.0.1", port=int(port), protocol="http",
        database=database, schema=schema, login_timeout=20, network_timeout=60,
        session_parameters={"CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED": False},
    )
    cursor = connection.cursor()
    for table in tables:
        name, keys = table.split(":")
        cursor.execute(f"SELECT * FROM {name} LIMIT 0")
        columns = [(column.name.lower(), column.type_code == TIMESTAMP_NTZ) for column in cursor.description]
        # Times as text: in its own format the peer gives NULL as the epoch, and fails at some fractions of a second.
        select = ", ".join(f"CAST({column} AS VARCHAR)" if is_time else column for column, is_time in columns)
        cursor.execute(f"SELECT {select} FROM {name} ORDER BY {keys}")
        for row in cursor.fetchall():
            cells = {column: cell(value, is_time) for (column, is_time), value in zip(columns, row)}
            print(json.dumps({"table": name, **cells}, ensure_ascii=False))
    connection.close()


main()
