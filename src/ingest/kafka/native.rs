//! What librdkafka can say and `rdkafka` 0.39 does not pass on: which partition an error or an end belongs to, and a
//! topic's id. The only unsafe code of the source; nothing in here decides.
//!
//! An event owns what it points to: every borrow ends with the event. Pointers are read only inside the call that got
//! them from librdkafka, whose documentation ("rdkafka.h", section "Queues / event interface") gives their lifetimes.
#![expect(unsafe_code, reason = "librdkafka's event queue and DescribeTopics have no safe interface in rdkafka 0.39")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::types::RDKafkaErrorCode;

use crate::core::record::{Header, Record};

/// The consumer's own queue: messages, errors and rebalances, in order.
pub(super) struct Queue(NonNull<sys::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues are thread-safe; this one is only moved into the worker's thread.
unsafe impl Send for Queue {}

impl Queue {
    /// The queue of a consumer. It must be dropped before the consumer is.
    pub(super) fn of_consumer(client: *mut sys::rd_kafka_t) -> Option<Queue> {
        // SAFETY: `client` is a live consumer; the call returns a counted reference or null.
        NonNull::new(unsafe { sys::rd_kafka_queue_get_consumer(client) }).map(Queue)
    }

    /// The next event, waiting up to `wait`.
    pub(super) fn poll(&self, wait: Duration) -> Option<Event> {
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive; the event returned is ours to destroy.
        NonNull::new(unsafe { sys::rd_kafka_queue_poll(self.0.as_ptr(), wait_ms) }).map(Event)
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: our one reference, given up once.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// One event and what it carries.
pub(super) struct Event(NonNull<sys::rd_kafka_event_t>);

/// What an event is.
pub(super) enum Kind {
    Messages,
    Error { code: RDKafkaErrorCode, reason: String, is_fatal: bool, at: Option<At> },
    Assign(Vec<(String, i32)>),
    Revoke(Vec<(String, i32)>),
    Committed(Option<RDKafkaErrorCode>),
    Statistics(String),
    Log { level: i32, text: String },
    Other,
}

/// Where an error happened.
pub(super) struct At {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl Event {
    pub(super) fn kind(&self) -> Kind {
        let event = self.0.as_ptr();
        // SAFETY: the event is alive for the whole call; each accessor is documented for the type it is called on.
        unsafe {
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_FETCH => Kind::Messages,
                sys::RD_KAFKA_EVENT_ERROR => Kind::Error {
                    code: sys::rd_kafka_event_error(event).into(),
                    reason: text(sys::rd_kafka_event_error_string(event)),
                    is_fatal: sys::rd_kafka_event_error_is_fatal(event) != 0,
                    at: at(event),
                },
                sys::RD_KAFKA_EVENT_REBALANCE => {
                    let list = partitions(sys::rd_kafka_event_topic_partition_list(event));
                    match sys::rd_kafka_event_error(event).into() {
                        RDKafkaErrorCode::AssignPartitions => Kind::Assign(list),
                        _ => Kind::Revoke(list),
                    }
                }
                sys::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                    let code: RDKafkaErrorCode = sys::rd_kafka_event_error(event).into();
                    Kind::Committed((code != RDKafkaErrorCode::NoError).then_some(code))
                }
                sys::RD_KAFKA_EVENT_STATS => Kind::Statistics(text(sys::rd_kafka_event_stats(event))),
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                    sys::rd_kafka_event_log(event, &mut facility, &mut line, &mut level);
                    Kind::Log { level, text: text(line) }
                }
                _ => Kind::Other,
            }
        }
    }

    /// The next message of an event of messages.
    pub(super) fn next_message(&mut self) -> Option<Message<'_>> {
        // SAFETY: the event is alive; the message lives as long as it and is borrowed from it.
        let message = unsafe { sys::rd_kafka_event_message_next(self.0.as_ptr()) };
        Some(Message { message: NonNull::new(message.cast_mut())?, event: PhantomData })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, destroyed once; nothing borrowed from it is left.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) }
    }
}

/// One message, borrowed from its event.
pub(super) struct Message<'a> {
    message: NonNull<sys::rd_kafka_message_t>,
    event: PhantomData<&'a Event>,
}

impl<'a> Message<'a> {
    fn raw(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: valid and unchanged for 'a, see `next_message`.
        unsafe { self.message.as_ref() }
    }

    pub(super) fn topic(&self) -> &'a str {
        // SAFETY: a consumed message always has its topic; the topic object outlives the message. Topic names are ASCII.
        unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(self.raw().rkt)) }.to_str().unwrap_or_default()
    }

    pub(super) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// The epoch of the leader that took it; none where the broker does not say.
    pub(super) fn leader_epoch(&self) -> Option<i32> {
        // SAFETY: the message is alive for the call.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.message.as_ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    /// An error in a message's place.
    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        let code: RDKafkaErrorCode = self.raw().err.into();
        (code != RDKafkaErrorCode::NoError).then_some(code)
    }

    /// Its value where it lies.
    pub(super) fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: payload and len belong together; null means none.
        unsafe { bytes(raw.payload, raw.len) }
    }

    /// The bytes of key and value.
    pub(super) fn key_and_value_len(&self) -> usize {
        self.raw().key_len.saturating_add(self.raw().len)
    }

    /// A copy of all of it, or of all but key, value and headers.
    pub(super) fn record(&self, is_whole: bool) -> Record {
        let (timestamp_ms, timestamp_type) = self.timestamp();
        let mut record = Record { timestamp_ms, timestamp_type, ..Record::default() };
        if is_whole {
            let raw = self.raw();
            // SAFETY: key and key_len belong together; null means none.
            record.key = unsafe { bytes(raw.key, raw.key_len) }.map(<[u8]>::to_vec);
            record.value = self.value().map(<[u8]>::to_vec);
            record.headers = self.headers();
        }
        record
    }

    /// In order, duplicates and nulls kept.
    fn headers(&self) -> Vec<Header> {
        let mut headers = ptr::null_mut();
        let mut found = Vec::new();
        // SAFETY: the message is alive; the header list belongs to it, and so do names and values.
        unsafe {
            let got: RDKafkaErrorCode = sys::rd_kafka_message_headers(self.message.as_ptr(), &mut headers).into();
            if got != RDKafkaErrorCode::NoError || headers.is_null() {
                return found;
            }
            for index in 0..sys::rd_kafka_header_cnt(headers) {
                let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                let got: RDKafkaErrorCode =
                    sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size).into();
                if got != RDKafkaErrorCode::NoError || name.is_null() {
                    break;
                }
                let name = CStr::from_ptr(name).to_bytes().to_vec();
                found.push(Header { name, value: bytes(value, size).map(<[u8]>::to_vec) });
            }
        }
        found
    }

    /// Milliseconds and the broker's code (0 create, 1 append, 2 none); librdkafka counts its codes from "none".
    fn timestamp(&self) -> (i64, u32) {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, `kind` is ours.
        let at = unsafe { sys::rd_kafka_message_timestamp(self.message.as_ptr(), &mut kind) };
        match kind {
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME => (at, 0),
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME => (at, 1),
            sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE => (-1, 2),
        }
    }
}

/// What DescribeTopics says of one topic.
pub(super) struct Described {
    pub(super) name: String,
    /// Base64 as Kafka prints it; empty where the broker knows no topic ids.
    pub(super) topic_id: String,
    pub(super) partitions: u32,
    pub(super) error: Option<RDKafkaErrorCode>,
}

/// Asks the cluster for the facts of topics, waiting up to `wait`.
pub(super) fn describe_topics(
    client: *mut sys::rd_kafka_t,
    names: &[&str],
    wait: Duration,
) -> Result<Vec<Described>, (RDKafkaErrorCode, String)> {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    let names: Vec<CString> = names.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: every object made here is destroyed here, in reverse order; the result is read before its event goes.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options =
            sys::rd_kafka_AdminOptions_new(client, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(client, topics, options, queue);
        let answer = Queue(NonNull::new_unchecked(queue)).poll(wait.saturating_add(Duration::from_secs(1)));
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        match answer {
            Some(event) => described(&event),
            None => Err((RDKafkaErrorCode::OperationTimedOut, "no answer to DescribeTopics".to_owned())),
        }
    }
}

/// SAFETY: `event` is the answer to DescribeTopics.
unsafe fn described(event: &Event) -> Result<Vec<Described>, (RDKafkaErrorCode, String)> {
    let event = event.0.as_ptr();
    // SAFETY: the caller's promise; all pointers belong to the event, which outlives this call.
    unsafe {
        let code: RDKafkaErrorCode = sys::rd_kafka_event_error(event).into();
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if code != RDKafkaErrorCode::NoError || result.is_null() {
            return Err((code, text(sys::rd_kafka_event_error_string(event))));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        let mut found = Vec::with_capacity(count);
        for index in 0..count {
            let topic = *topics.add(index);
            let error = sys::rd_kafka_TopicDescription_error(topic);
            let code: RDKafkaErrorCode = sys::rd_kafka_error_code(error).into();
            let mut partitions = 0;
            sys::rd_kafka_TopicDescription_partitions(topic, &mut partitions);
            found.push(Described {
                name: text(sys::rd_kafka_TopicDescription_name(topic)),
                topic_id: topic_id(sys::rd_kafka_TopicDescription_topic_id(topic)),
                partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
                error: (code != RDKafkaErrorCode::NoError).then_some(code),
            });
        }
        Ok(found)
    }
}

/// SAFETY: `id` is null or alive.
unsafe fn topic_id(id: *const sys::rd_kafka_Uuid_t) -> String {
    if id.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise; the base64 text belongs to the id.
    unsafe {
        let is_zero =
            sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
        if is_zero { String::new() } else { text(sys::rd_kafka_Uuid_base64str(id)) }
    }
}

/// SAFETY: `event` is alive.
unsafe fn at(event: *mut sys::rd_kafka_event_t) -> Option<At> {
    // SAFETY: the partition returned is a copy and ours to destroy.
    unsafe {
        let partition = NonNull::new(sys::rd_kafka_event_topic_partition(event))?;
        let found = partition.as_ref();
        let at = At { topic: text(found.topic), partition: found.partition, offset: found.offset };
        sys::rd_kafka_topic_partition_destroy(partition.as_ptr());
        Some(at)
    }
}

/// SAFETY: `list` is null or alive.
unsafe fn partitions(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<(String, i32)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: `elems` holds `cnt` elements.
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count).map(|index| &*(*list).elems.add(index)).map(|one| (text(one.topic), one.partition)).collect()
    }
}

/// SAFETY: `text` is null or a C string.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().trim().to_owned()
}

/// SAFETY: `start` is null or holds `size` bytes for 'a. Null and empty stay two things.
unsafe fn bytes<'a>(start: *const c_void, size: usize) -> Option<&'a [u8]> {
    if start.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    Some(unsafe { std::slice::from_raw_parts(start.cast(), size) })
}
