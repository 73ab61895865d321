//! A TOML file, read field by field, so that each error names its place.

use core::fmt;
use core::ops::{Range, RangeInclusive};
use core::str::FromStr;
use core::time::Duration;
use core::cell::RefCell;
use core::net::SocketAddrV4;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::units;

/// What is wrong with a file, and where. One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: PathBuf,
    /// Line and column, from 1; none if the file could not be read.
    place: Option<(usize, usize)>,
    field: String,
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        // The file may contain anything: an error must stay one line, and be harmless to a terminal.
        let shown = |text: &str| text.replace(char::is_control, "?");
        match self.field.as_str() {
            "" => write!(f, ": {}", shown(&self.problem)),
            field => write!(f, ": {}: {}", shown(field), shown(&self.problem)),
        }
    }
}

impl core::error::Error for ConfigError {}

impl ConfigError {
    /// The file itself cannot be read.
    #[must_use]
    pub(super) fn file(file: &Path, problem: impl fmt::Display) -> Self {
        Self { file: file.into(), place: None, field: String::new(), problem: problem.to_string() }
    }

    /// Turns a fault into an error with line and column.
    #[must_use]
    pub(super) fn at(file: &Path, text: &str, fault: Fault) -> Self {
        let before = text.get(..fault.span.start.min(text.len())).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { file: file.into(), place: Some((line, column)), field: fault.field, problem: fault.problem }
    }
}

/// The largest configuration, in bytes.
const LONGEST: u64 = 64 << 20;

/// Reads a configuration. It must be a regular file, so that a reload does not wait for a pipe.
///
/// # Errors
/// The file cannot be read, is no regular file, is too large, or is not UTF-8.
pub(super) fn text(file: &Path) -> Result<String, ConfigError> {
    only_regular(file).map_err(|problem| ConfigError::file(file, problem))?;
    byway_key_file::text(file, LONGEST).map_err(|error| ConfigError::file(file, error))
}

/// Refuses pipes, devices and sockets, which may block for ever. A missing file is not refused here.
///
/// # Errors
/// The file is one of these.
pub fn only_regular(file: &Path) -> Result<(), String> {
    match std::fs::metadata(file) {
        Ok(found) if !found.is_file() && !found.is_dir() => Err("it is no regular file".into()),
        _ => Ok(()),
    }
}

/// What is wrong with a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where it stands, in bytes.
    pub(super) span: Range<usize>,
    /// Its name, with those of the tables around it.
    pub(super) field: String,
    /// What is wrong, and what was expected.
    pub(super) problem: String,
}

/// Reads the text as TOML.
///
/// # Errors
/// [`Fault`] says what is wrong with it as TOML.
pub(super) fn parse(text: &str) -> Result<(DeTable<'_>, Range<usize>), Fault> {
    match DeTable::parse(text) {
        Ok(table) => {
            let span = table.span();
            Ok((table.into_inner(), span))
        }
        Err(error) => Err(Fault {
            span: error.span().unwrap_or(0..0),
            field: String::new(),
            problem: error.message().trim().replace('\n', "; "),
        }),
    }
}

/// A table whose fields are read one after the other. Those that were never read are unknown fields.
#[derive(Debug)]
pub(super) struct Table<'a> {
    table: &'a DeTable<'a>,
    span: Range<usize>,
    path: String,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Table<'a> {
    /// The top-level table of a document.
    #[must_use]
    pub(super) const fn root(table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self { table, span, path: String::new(), asked: RefCell::new(Vec::new()) }
    }

    /// A field, if it is there.
    #[must_use]
    pub(super) fn get(&self, name: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(name);
        let value = self.table.get(name)?;
        Some(Value { value: value.get_ref(), span: value.span(), field: join(&self.path, name) })
    }

    /// Reads a field, or returns the default if it is missing.
    ///
    /// # Errors
    /// The fault that `read` returns.
    pub(super) fn or<T>(
        &self,
        name: &'static str,
        default: T,
        read: impl Fn(&Value<'a>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        self.get(name).map_or(Ok(default), |value| read(&value))
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// A fault of this table, if it is not.
    pub(super) fn need(&self, name: &'static str, expected: &str) -> Result<Value<'a>, Fault> {
        self.get(name).ok_or_else(|| Fault {
            span: self.span.clone(),
            field: join(&self.path, name),
            problem: format!("it is missing: expected {expected}"),
        })
    }

    /// A table within this one; `None` if it is missing.
    ///
    /// # Errors
    /// A fault of the field, if it is something else.
    pub(super) fn table(&self, name: &'static str) -> Result<Option<Self>, Fault> {
        self.get(name).map(|value| value.table()).transpose()
    }

    /// All its fields, whatever their names are.
    pub(super) fn each(&self) -> impl Iterator<Item = (&'a str, Value<'a>)> {
        self.table.iter().map(|(name, value)| {
            let name: &str = name.get_ref();
            (name, Value { value: value.get_ref(), span: value.span(), field: join(&self.path, name) })
        })
    }

    /// Says which fields are allowed, before they are read one by one: otherwise a misspelt name would be reported as a missing
    /// field.
    ///
    /// # Errors
    /// A fault of the first field that is not allowed.
    pub(super) fn only(&self, names: &[&'static str]) -> Result<(), Fault> {
        self.asked.borrow_mut().extend(names);
        self.finish()
    }

    /// To be called after all fields of a table were read.
    ///
    /// # Errors
    /// A fault of the first field that was not read.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let asked = self.asked.borrow();
        let mut names = self.table.keys();
        let unknown = names.find(|name| !asked.iter().any(|asked| *asked == name.get_ref().as_ref()));
        unknown.map_or(Ok(()), |name| {
            Err(Fault {
                span: name.span(),
                field: join(&self.path, name.get_ref()),
                problem: format!("there is no such field: expected one of {}", asked.join(", ")),
            })
        })
    }

    /// A fault of the table as a whole.
    #[must_use]
    pub(super) fn fault(&self, problem: impl fmt::Display) -> Fault {
        Fault { span: self.span.clone(), field: self.path.clone(), problem: problem.to_string() }
    }
}

/// A value, with its place and its name.
#[derive(Clone, Debug)]
pub(super) struct Value<'a> {
    value: &'a DeValue<'a>,
    span: Range<usize>,
    field: String,
}

impl<'a> Value<'a> {
    /// A fault of this value.
    #[must_use]
    pub(super) fn fault(&self, problem: impl fmt::Display) -> Fault {
        Fault { span: self.span.clone(), field: self.field.clone(), problem: problem.to_string() }
    }

    fn unexpected(&self, expected: &str) -> Fault {
        self.fault(format!("{} found: expected {expected}", self.value.type_str()))
    }

    /// A string.
    ///
    /// # Errors
    /// A fault, if it is something else; `expected` says what should stand in it.
    pub(super) fn text(&self, expected: &str) -> Result<&'a str, Fault> {
        self.value.as_str().ok_or_else(|| self.unexpected(expected))
    }

    /// A string that can be parsed as a `T`.
    ///
    /// # Errors
    /// A fault that says what was expected.
    pub(super) fn read<T: FromStr>(&self, expected: &str) -> Result<T, Fault> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| self.fault(format!("\"{text}\" found: expected {expected}")))
    }

    /// One of several words.
    ///
    /// # Errors
    /// A fault that lists them.
    pub(super) fn choice<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, Fault> {
        let all: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let expected = format!("one of {}", all.join(", "));
        let text = self.text(&expected)?;
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| self.fault(format!("\"{text}\" found: expected {expected}")))
    }

    /// A number within these bounds.
    ///
    /// # Errors
    /// A fault that names them.
    pub(super) fn number<T: TryFrom<u64> + Into<u64> + Copy>(&self, range: RangeInclusive<T>) -> Result<T, Fault> {
        let bounds = (*range.start()).into()..=(*range.end()).into();
        let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
        let integer = self.value.as_integer().ok_or_else(|| self.unexpected(&expected))?;
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok().filter(|n| bounds.contains(n));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| self.fault(format!("{integer} found: expected {expected}")))
    }

    /// A finite number above zero.
    ///
    /// # Errors
    /// A fault, if it is something else.
    pub(super) fn positive(&self) -> Result<f64, Fault> {
        const EXPECTED: &str = "a number above zero";
        let integer = self.value.as_integer().filter(|integer| integer.radix() == 10).map(|integer| integer.as_str());
        let text = integer.or(self.value.as_float().map(|float| float.as_str()));
        let text = text.ok_or_else(|| self.unexpected(EXPECTED))?;
        let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
        number.ok_or_else(|| self.fault(format!("{text} found: expected {EXPECTED}")))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// A fault, if it is something else.
    pub(super) fn boolean(&self) -> Result<bool, Fault> {
        self.value.as_bool().ok_or_else(|| self.unexpected("true or false"))
    }

    /// A time with units.
    ///
    /// # Errors
    /// A fault, if it is something else.
    pub(super) fn duration(&self) -> Result<Duration, Fault> {
        self.time(units::duration)
    }

    /// A time with units, which may be zero.
    ///
    /// # Errors
    /// A fault, if it is something else.
    pub(super) fn duration_or_zero(&self) -> Result<Duration, Fault> {
        self.time(units::duration_or_zero)
    }

    fn time(&self, read: impl Fn(&str) -> Option<Duration>) -> Result<Duration, Fault> {
        const EXPECTED: &str = "a time like \"2h4m\", \"300s\" or \"500ms\"";
        let text = self.text(EXPECTED)?;
        read(text).ok_or_else(|| self.fault(format!("\"{text}\" found: expected {EXPECTED}")))
    }

    /// An address, and a port that is not zero.
    ///
    /// # Errors
    /// A fault that says what was expected.
    pub(super) fn endpoint(&self, expected: &str) -> Result<SocketAddrV4, Fault> {
        let endpoint: SocketAddrV4 = self.read(expected)?;
        match endpoint.port() {
            0 => Err(self.fault(format!("{endpoint} found: no port is 0: expected {expected}"))),
            _ => Ok(endpoint),
        }
    }

    /// The items of a list, or the value itself if it is not a list.
    #[must_use]
    pub(super) fn one_or_more(&self) -> Vec<Self> {
        self.items().unwrap_or_else(|| vec![self.clone()])
    }

    /// The items of a list.
    ///
    /// # Errors
    /// A fault, if it is something else.
    pub(super) fn list(&self, expected: &str) -> Result<Vec<Self>, Fault> {
        self.items().ok_or_else(|| self.unexpected(expected))
    }

    fn items(&self) -> Option<Vec<Self>> {
        let items = self.value.as_array()?.iter().enumerate();
        let item = |(number, item): (usize, &'a toml::Spanned<DeValue<'a>>)| Self {
            value: item.get_ref(),
            span: item.span(),
            // Counted from 1.
            field: format!("{}[{}]", self.field, number + 1),
        };
        Some(items.map(item).collect())
    }

    /// A table.
    ///
    /// # Errors
    /// A fault, if it is something else.
    pub(super) fn table(&self) -> Result<Table<'a>, Fault> {
        let table = self.value.as_table().ok_or_else(|| self.unexpected("a table"))?;
        Ok(Table { table, span: self.span.clone(), path: self.field.clone(), asked: RefCell::default() })
    }

    /// Its contents in one form, however it is written: two values are the same if this is.
    pub(super) fn canonical(&self) -> String {
        if let Some(items) = self.items() {
            return format!("[{}]", items.iter().map(Self::canonical).collect::<Vec<_>>().join(", "));
        }
        if let Ok(table) = self.table() {
            let fields = table.each().map(|(name, value)| format!("{name:?} = {}", value.canonical()));
            return format!("{{{}}}", fields.collect::<Vec<_>>().join(", "));
        }
        let integer = |value: &DeValue<'_>| {
            let integer = value.as_integer()?;
            i128::from_str_radix(integer.as_str(), integer.radix()).ok().map(|number| number.to_string())
        };
        let float = |value: &DeValue<'_>| value.as_float()?.as_str().parse::<f64>().ok().map(|number| format!("{number:?}"));
        let text = self.value.as_str().map(|text| format!("{text:?}"));
        text.or_else(|| integer(self.value)).or_else(|| float(self.value)).unwrap_or_else(|| format!("{:?}", self.value))
    }

    /// Every value in it that is neither a table nor a list, with its name and its text.
    pub(super) fn leaves(&self, text: &str, each: &mut dyn FnMut(&Self, &str)) {
        if let Some(items) = self.items() {
            // A list is one value, so that an item that moves does not count as a change of the others.
            if items.iter().all(|item| item.value.as_table().is_none()) {
                return each(self, text.get(self.span.clone()).unwrap_or_default());
            }
            return items.iter().for_each(|item| item.leaves(text, each));
        }
        match self.table() {
            Ok(table) => table.each().for_each(|(_, value)| value.leaves(text, each)),
            Err(_) => each(self, text.get(self.span.clone()).unwrap_or_default()),
        }
    }

    /// Its name, with those of the tables around it.
    #[must_use]
    pub(super) fn field(&self) -> &str {
        &self.field
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.into() } else { format!("{path}.{name}") }
}
