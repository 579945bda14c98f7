//! The options in an attribute: `name = "…", timeout = …, at_most_once`.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::{
    Error, Expr, ExprLit, Ident, Lit, Result, Token,
    ext::IdentExt,
    parse::{ParseStream, Parser},
};

const WORKFLOW: &[&str] = &["name"];
const ACTIVITY: &[&str] = &[
    "name",
    "retry",
    "timeout",
    "deadline",
    "heartbeat_timeout",
    "queue",
    "at_most_once",
    "park_when_exhausted",
];
const DURABLE_TEST: &[&str] = &["worker", "seeds"];
/// Options that are named and have no value.
const FLAGS: &[&str] = &["at_most_once", "park_when_exhausted"];

/// The options of one attribute, each given once at most.
#[derive(Default)]
pub(crate) struct Options(Vec<Given>);

struct Given {
    option: Ident,
    value: Option<Expr>,
}

impl Options {
    pub(crate) fn of_workflow(input: ParseStream<'_>) -> Result<Self> {
        Self::parse(input, WORKFLOW)
    }

    pub(crate) fn of_activity(input: ParseStream<'_>) -> Result<Self> {
        Self::parse(input, ACTIVITY)
    }

    pub(crate) fn of_durable_test(input: ParseStream<'_>) -> Result<Self> {
        Self::parse(input, DURABLE_TEST)
    }

    /// Of an attribute that has none.
    pub(crate) fn none(input: ParseStream<'_>) -> Result<Self> {
        match input.is_empty() {
            true => Ok(Self::default()),
            false => Err(input.error("options belong to the single activities: `#[activity(…)]`")),
        }
    }

    /// Of an `#[activity]` or `#[activity(…)]` on a method.
    pub(crate) fn of_method(attribute: &syn::Attribute) -> Result<Self> {
        match &attribute.meta {
            syn::Meta::Path(_) => Ok(Self::default()),
            syn::Meta::List(list) => Self::of_activity.parse2(list.tokens.clone()),
            syn::Meta::NameValue(_) => Err(Error::new_spanned(
                attribute,
                "options are in parentheses: `#[activity(name = \"…\")]`",
            )),
        }
    }

    fn parse(input: ParseStream<'_>, known: &[&str]) -> Result<Self> {
        let mut options = Self::default();
        while !input.is_empty() {
            let given = Given::parse(input, known)?;
            if options.value(&given.option.to_string()).is_some() {
                return Err(Error::new(given.option.span(), "it is given twice"));
            }
            options.0.push(given);
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(options)
    }

    fn value(&self, option: &str) -> Option<&Given> {
        self.0.iter().find(|given| given.option == option)
    }

    /// The expression of an option that was given.
    pub(crate) fn expression(&self, option: &str) -> Option<&Expr> {
        self.value(option)?.value.as_ref()
    }

    /// The name that was given, or another.
    ///
    /// # Errors
    ///
    /// When it is not a literal text with at least one character.
    pub(crate) fn name(&self, otherwise: impl FnOnce() -> String) -> Result<String> {
        let Some(given) = self.expression("name") else {
            return Ok(otherwise());
        };
        match given {
            Expr::Lit(ExprLit {
                lit: Lit::Str(name),
                ..
            }) if !name.value().is_empty() => Ok(name.value()),
            other => Err(Error::new_spanned(
                other,
                "a name is a text that never changes: `name = \"charge card\"`",
            )),
        }
    }

    /// The body of `Activity::options`, or nothing where the defaults serve.
    pub(crate) fn of_calls(&self) -> Option<TokenStream> {
        let changes: Vec<_> = self.0.iter().filter_map(Given::change).collect();
        if changes.is_empty() {
            return None;
        }
        Some(quote! {
            fn options() -> ::sync_workflow::ActivityOptions {
                let mut options = ::sync_workflow::ActivityOptions::default();
                #(#changes)*
                options
            }
        })
    }
}

impl Given {
    fn parse(input: ParseStream<'_>, known: &[&str]) -> Result<Self> {
        let option = input.call(Ident::parse_any)?;
        let text = option.to_string();
        if !known.contains(&text.as_str()) {
            let known = known.join("`, `");
            let message = format!("there is no option `{text}`; there are `{known}`");
            return Err(Error::new(option.span(), message));
        }
        if FLAGS.contains(&text.as_str()) {
            return match input.peek(Token![=]) {
                true => {
                    Err(input.error(format!("`{text}` has no value: it holds where it is named")))
                }
                false => Ok(Self {
                    option,
                    value: None,
                }),
            };
        }
        if !input.peek(Token![=]) {
            let message = format!("`{text}` needs a value: `{text} = …`");
            return Err(Error::new(option.span(), message));
        }
        input.parse::<Token![=]>()?;
        Ok(Self {
            option,
            value: Some(input.parse()?),
        })
    }

    /// What the option changes of the options of a call.
    fn change(&self) -> Option<TokenStream> {
        let value = &self.value;
        let some = quote!(::core::option::Option::Some);
        let change = match self.option.to_string().as_str() {
            "retry" => quote!(options.retry = #value;),
            "timeout" => quote!(options.timeouts.start_to_close = #some(#value);),
            "deadline" => quote!(options.timeouts.schedule_to_close = #some(#value);),
            "heartbeat_timeout" => quote!(options.timeouts.heartbeat = #some(#value);),
            "queue" => quote!(options.queue = #some(::core::convert::Into::into(#value));),
            "at_most_once" => quote!(options.at_most_once = true;),
            "park_when_exhausted" => quote!(options.park_when_exhausted = true;),
            _ => return None,
        };
        Some(change)
    }
}

/// An error about the attribute itself.
pub(crate) fn missing(message: &str) -> Error {
    Error::new(Span::call_site(), message)
}
