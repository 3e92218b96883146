//! `name:key=value,key=value`, the way users write attacks. Fractions are exact up to f64: `8/255` is 8.0 / 255.0.

use crate::{Error, Result};
use std::fmt;

/// A value as written, and as JSON: number, fraction, true/false or text.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub text: String,
    pub json: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    pub name: String,
    pub params: Vec<(String, Value)>,
}

impl Spec {
    /// Parameters every attack understands; they are read by the evaluation, not by the attack.
    pub const COMMON: [&'static str; 3] = ["eps", "norm", "queries"];

    /// # Errors
    /// Kind `Usage` for a text without a name, a part that is not `key=value`, and a key given twice.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, rest) = text.split_once(':').unwrap_or((text, ""));
        let name = name.trim().to_string();
        if name.is_empty() {
            return Err(Error::usage(format!("`{text}` names no attack"))
                .hint("write name:key=value, such as pgd-linf:eps=8/255"));
        }
        let mut params: Vec<(String, Value)> = vec![];
        for part in rest.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                return Err(Error::usage(format!("`{part}` in `{text}` is not key=value")).hint("such as steps=40"));
            };
            let (key, value) = (key.trim().to_string(), value.trim());
            if params.iter().any(|(k, _)| *k == key) {
                return Err(Error::usage(format!("`{key}` is given twice in `{text}`")));
            }
            params.push((key, Value::parse(value)?));
        }
        Ok(Self { name, params })
    }

    /// Removes and returns a parameter.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.params.iter().position(|(k, _)| k == key)?;
        Some(self.params.remove(at).1)
    }

    /// A parameter as it was written.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.params.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (i, (key, value)) in self.params.iter().enumerate() {
            write!(f, "{}{key}={}", if i == 0 { ':' } else { ',' }, value.text)?;
        }
        Ok(())
    }
}

impl Value {
    /// A number, a fraction such as `8/255`, `true` or `false`, and any other text as it is.
    ///
    /// # Errors
    /// Kind `Usage` for numbers that are not finite.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self { text: text.to_string(), json: parse_value(text)? })
    }

    /// The number meant, for parameters that must be one.
    pub fn number(&self, key: &str) -> Result<f64> {
        self.json.as_f64().ok_or_else(|| {
            Error::usage(format!("{key}={} is not a number", self.text))
                .hint(format!("such as {key}=0.3 or {key}=8/255"))
        })
    }
}

fn parse_value(text: &str) -> Result<serde_json::Value> {
    if let Ok(whole) = text.parse::<u64>() {
        return Ok(whole.into());
    }
    if let Ok(flag) = text.parse::<bool>() {
        return Ok(flag.into());
    }
    let number = match text.split_once('/') {
        Some((over, under)) => match (over.trim().parse::<f64>(), under.trim().parse::<f64>()) {
            (Ok(over), Ok(under)) => Some(over / under),
            _ => None,
        },
        None => text.parse::<f64>().ok(),
    };
    match number {
        Some(v) => serde_json::Number::from_f64(v)
            .map(serde_json::Value::Number)
            .ok_or_else(|| Error::usage(format!("`{text}` is not a finite number"))),
        None => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_exact_and_text_stays_text() -> Result<()> {
        let spec = Spec::parse("pgd-linf:eps=8/255, steps=40,objective=ce,restart=true")?;
        assert_eq!(spec.get("eps").map(|v| v.json.clone()), Some((8. / 255.).into()));
        assert_eq!(spec.get("steps").map(|v| v.json.clone()), Some(40u64.into()));
        assert_eq!(spec.get("objective").map(|v| v.json.clone()), Some("ce".into()));
        assert_eq!(spec.to_string(), "pgd-linf:eps=8/255,steps=40,objective=ce,restart=true");
        Ok(())
    }

    #[test]
    fn division_by_zero_and_doubled_keys_are_refused() {
        assert!(Spec::parse("pgd:eps=1/0").is_err());
        assert!(Spec::parse("pgd:eps=1,eps=2").is_err());
        assert!(Spec::parse("pgd:eps").is_err());
        assert!(Spec::parse(":eps=1").is_err());
    }
}
