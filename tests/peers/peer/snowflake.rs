//! snowduck behind our strict front of the Snowflake SQL API.
