//! `password`, and `authentication` and `keys` as BIRD has them since 2.17 and 3.1 (2.0.12 has the first alone).

use super::super::diagnostic::{Checked, Complaint, Position};
use super::super::{AoAlgorithm, AoKey, AoKeys, AoPreference, Authentication};
use super::Parser;

/// The kernel's limit (TCP_MD5SIG_MAXKEYLEN, TCP_AO_MAXKEYLEN).
const MAX_KEY: usize = 80;

/// What was said of it so far.
#[derive(Debug, Clone, Default)]
pub(super) struct AuthenticationDraft {
    method: Option<Method>,
    password: Option<String>,
    keys: Vec<AoKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    None,
    Md5,
    Ao,
}

impl AuthenticationDraft {
    /// What the statements mean together. A password alone means MD5, as it always did.
    pub(super) fn finish(self, at: Position) -> Checked<Authentication> {
        let fail = |message: &str, hint: &str| Err(Complaint::new(at, message).with_hint(hint));
        let (password, has_keys) = (self.password, !self.keys.is_empty());
        match (self.method, password) {
            (Some(Method::None), None) | (None, None) if !has_keys => Ok(Authentication::None),
            (Some(Method::Md5) | None, Some(password)) if !has_keys => Ok(Authentication::Md5(password)),
            (Some(Method::Ao), None) => match AoKeys::new(self.keys) {
                Ok(keys) => Ok(Authentication::Ao(keys)),
                Err(bad) => Err(Complaint::new(at, bad.to_string())),
            },
            (Some(Method::Md5), None) => fail("'authentication md5' without a password", "write 'password \"KEY\"'"),
            (Some(Method::None), _) => fail("'authentication none' with a password or keys", "leave one of them out"),
            (_, Some(_)) => fail(
                "'password' is for TCP MD5, 'keys' are for TCP-AO",
                "leave one of them out",
            ),
            (None, None) => fail(
                "'keys' are for TCP-AO, which is not asked for",
                "write 'authentication ao'",
            ),
        }
    }
}

impl Parser {
    /// One of these options without its `;`; false when the words are none.
    pub(super) fn bgp_authentication(&mut self, draft: &mut AuthenticationDraft) -> Checked<bool> {
        if self.eat_word("password") {
            draft.password = Some(self.tcp_key("password")?);
        } else if self.eat_word("authentication") {
            let methods = [("none", Method::None), ("md5", Method::Md5), ("ao", Method::Ao)];
            let method = methods.iter().find(|(word, _)| self.is_word(word));
            let (_, method) = method.ok_or_else(|| self.unexpected("authentication: 'none', 'md5' or 'ao'"))?;
            self.advance();
            draft.method = Some(*method);
        } else if self.eat_word("keys") {
            draft.keys = self.ao_keys()?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// `{ key { .. }; .. }`. Those of a template are replaced.
    fn ao_keys(&mut self) -> Checked<Vec<AoKey>> {
        let mut keys = Vec::new();
        self.sign("{")?;
        while !self.eat_sign("}") {
            self.keyword("key")?;
            keys.push(self.ao_key()?);
            self.end()?;
        }
        Ok(keys)
    }

    fn ao_key(&mut self) -> Checked<AoKey> {
        let at = self.here();
        let (mut send_id, mut recv_id, mut secret) = (None, None, None);
        let (mut algorithm, mut preference) = (AoAlgorithm::HmacSha1, AoPreference::Plain);
        self.sign("{")?;
        while !self.eat_sign("}") {
            if self.eat_phrase("send id") {
                send_id = Some(self.ao_id("send id")?);
            } else if self.eat_phrase("recv id") {
                recv_id = Some(self.ao_id("recv id")?);
            } else if self.eat_word("id") {
                let id = self.ao_id("id")?;
                (send_id, recv_id) = (Some(id), Some(id));
            } else if self.eat_word("secret") {
                secret = Some(self.tcp_key("secret")?);
            } else if self.eat_word("algorithm") {
                algorithm = self.ao_algorithm()?;
            } else if self.eat_word("preferred") {
                preference = AoPreference::Preferred;
            } else if self.eat_word("deprecated") {
                preference = AoPreference::Deprecated;
            } else {
                return Err(self.unexpected(
                    "'id', 'send id', 'recv id', 'secret', 'algorithm', 'preferred', 'deprecated' or '}'",
                ));
            }
            self.end()?;
        }
        match (send_id, recv_id, secret) {
            (Some(send_id), Some(recv_id), Some(secret)) => Ok(AoKey {
                send_id,
                recv_id,
                secret,
                algorithm,
                preference,
            }),
            (_, _, None) => Err(Complaint::new(at, "key: no secret").with_hint("write 'secret \"KEY\"'")),
            _ => Err(Complaint::new(at, "key: no id in both directions").with_hint("write 'id NUMBER'")),
        }
    }

    fn ao_id(&mut self, what: &str) -> Checked<u8> {
        let id = self.number_in(what, 0..=u8::MAX.into())?;
        Ok(u8::try_from(id).unwrap_or(u8::MAX))
    }

    fn ao_algorithm(&mut self) -> Checked<AoAlgorithm> {
        let known = AoAlgorithm::NAMES;
        let row = known.iter().find(|(_, name, _)| self.phrase_len(name).is_some());
        let names: Vec<String> = known.iter().map(|(_, name, _)| format!("'{name}'")).collect();
        let (algorithm, name, _) =
            row.ok_or_else(|| self.unexpected(&format!("algorithm: one of {}", names.join(", "))))?;
        self.eat_phrase(name);
        Ok(*algorithm)
    }

    fn tcp_key(&mut self, what: &str) -> Checked<String> {
        let at = self.here();
        let key = self.text(what)?;
        if key.is_empty() || key.len() > MAX_KEY {
            let found = key.len();
            let message = format!("{what}: 1 to {MAX_KEY} octets expected, found {found}");
            return Err(Complaint::new(at, message));
        }
        Ok(key.as_ref().to_owned())
    }
}
