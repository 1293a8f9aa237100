//! Answers to what is no message: what is wrong with it, under its id wherever that can be known.

use std::collections::HashSet;
use std::fmt;

use rmcp::model::{CallToolRequestParams, InitializeRequestParams, PaginatedRequestParams};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// An answer that says what is wrong.
pub fn error(id: Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// The answer to a text that can't be read as a message; none to what may have been an answer or a notification.
pub fn of(text: &[u8]) -> Option<Value> {
    let value = serde_json::from_slice::<Value>(text);
    // An object's members can be told apart also where one of them holds what no value can be made of: half a surrogate pair, a
    // number out of all range.
    let Ok(Members(members)) = serde_json::from_slice(text) else {
        let (code, why) = match value {
            Ok(_) => (-32600, "this is no valid request"),
            Err(_) => (-32700, "this line is no JSON"),
        };
        return Some(error(Value::Null, code, why));
    };
    let has = |name: &str| members.iter().any(|(n, _)| n == name);
    let member = |name: &str| {
        let (_, raw) = members.iter().find(|(n, _)| n == name)?;
        serde_json::from_str::<Value>(raw.get()).ok()
    };
    let is_answer = !has("method") && (has("result") || has("error"));
    let is_notification = !has("id") && member("method").is_some_and(|m| m.is_string());
    if is_answer || is_notification {
        return None;
    }
    let is_doubled = |name: &&str| members.iter().filter(|(n, _)| n == name).count() > 1;
    let doubled = ["id", "jsonrpc", "method", "params"].into_iter().find(is_doubled);
    // A number that would not come back as it was is no id of its sender's.
    let written = members.iter().find(|(n, _)| n == "id").map(|(_, raw)| raw.get());
    let is_its = |id: &Value| {
        id.is_string() || id.is_number() && serde_json::to_string(id).is_ok_and(|id| Some(&*id) == written)
    };
    let id = member("id").filter(|id| is_its(id) && doubled != Some("id"));
    let can_be_id = id.as_ref().is_some_and(|id| id.is_string() || id.is_i64());
    let answer = |code, why: &str| Some(error(id.clone().unwrap_or_default(), code, why));
    if let Some(name) = doubled {
        return answer(-32600, &format!("`{name}` is there more than once"));
    }
    if let Err(e) = value {
        let what = "half a surrogate pair, or a number out of range";
        return answer(-32700, &format!("it holds what can't be read ({what}): {e}"));
    }
    // Said first: whatever else there is to say of it would be by rules that its sender does not follow.
    if member("jsonrpc").is_none_or(|v| v != "2.0") {
        return answer(-32600, "`jsonrpc` must be \"2.0\"");
    }
    if has("id") && !can_be_id {
        return answer(
            -32600,
            "`id` must be a string, or a whole number of 64 bits with a sign",
        );
    }
    let method = member("method").unwrap_or_default();
    let wrong = wrong_params(method.as_str().unwrap_or_default(), member("params"));
    match wrong.filter(|_| can_be_id) {
        Some(why) => answer(-32602, &why),
        None => answer(-32600, "this is no valid request"),
    }
}

/// Says what is wrong with the params of a request whose method is one of ours, but which could not be read as such.
pub fn wrong_params(method: &str, params: Option<Value>) -> Option<String> {
    let is_missing = params.is_none();
    let params = params.unwrap_or_default();
    let read = match method {
        "tools/call" => serde_json::from_value::<CallToolRequestParams>(params).map(drop),
        "initialize" => serde_json::from_value::<InitializeRequestParams>(params).map(drop),
        "tools/list" => serde_json::from_value::<Option<PaginatedRequestParams>>(params).map(drop),
        "ping" | "server/discover" => Ok(()),
        _ => return None,
    };
    if is_missing {
        return Some(format!("the params of {method} are missing"));
    }
    let why = read.map_or_else(|e| e.to_string(), |()| "they must be an object".to_owned());
    let why = crate::node::printable(&why, 200);
    Some(format!("the params of {method} are not as they must be: {why}"))
}

/// A name that an object in this JSON has twice, at whatever depth. What can't be read has none.
pub fn doubled(text: &[u8]) -> Option<String> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let _ = Names(&mut found).deserialize(&mut reader);
    found
}

/// Looks through a value for a name that is there twice.
struct Names<'f>(&'f mut Option<String>);

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if let Some(twice) = seen.replace(name) {
                self.0.get_or_insert(twice);
            }
            map.next_value_seed(Names(&mut *self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Names(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// The members of an object in the order in which they are written, as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Members<'de>, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Each)
    }
}
