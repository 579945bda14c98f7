//! Activities that are the methods of a type.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Attribute, Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, ReceiverKind, Result, Type,
    ext::IdentExt,
};

use crate::{
    arguments::{Arguments, Role},
    function::implementation,
    options::{Options, missing},
};

/// The block as it is, with a constant for each activity, and what registers them.
pub(crate) fn activities(block: &mut ItemImpl) -> Result<TokenStream> {
    let methods = take_activities(block)?;
    let of = owner(block)?;
    let activities: Vec<_> = methods
        .iter()
        .map(|(method, options)| Activity::of(of, method, options))
        .collect::<Result<_>>()?;
    if activities.is_empty() {
        return Err(missing("none of the methods is an `#[activity]`"));
    }
    let constants = activities.iter().map(|activity| &activity.constant);
    let types = activities.iter().map(|activity| &activity.implementation);
    let idents = activities.iter().map(|activity| &activity.ident);
    Ok(quote! {
        #block

        #[automatically_derived]
        impl #of {
            #(#constants)*
        }

        #(#types)*

        #[automatically_derived]
        impl ::sync_workflow::worker::Activities for #of {
            fn register(
                self: ::std::sync::Arc<Self>,
                worker: ::sync_workflow::WorkerBuilder,
            ) -> ::sync_workflow::WorkerBuilder {
                worker #(.activity(#idents(::std::sync::Arc::clone(&self))))*
            }
        }
    })
}

/// What is written for one method.
struct Activity {
    /// The type that implements `Activity`.
    ident: Ident,
    implementation: TokenStream,
    /// What workflow code names.
    constant: TokenStream,
}

impl Activity {
    fn of(owner: &Ident, method: &ImplItemFn, options: &Options) -> Result<Self> {
        let signature = &method.sig;
        check_receiver(method)?;
        let arguments = Arguments::of(Role::Activity, signature)?;
        let plain = signature.ident.unraw().to_string();
        let name = options.name(|| format!("{owner}::{plain}"))?;
        let ident = format_ident!("__{owner}_{plain}", span = signature.ident.span());
        let method_ident = &signature.ident;
        let code = quote!(self.0.#method_ident);
        let activity = implementation(&ident, method_ident, &name, &arguments, options, &code);
        let quiet = quote!(#[allow(non_camel_case_types, unreachable_pub)]);
        let implementation = quote! {
            #[doc(hidden)]
            #quiet
            pub struct #ident(::std::sync::Arc<#owner>);
            #activity
        };
        let upper = Ident::new(&plain.to_uppercase(), method_ident.span());
        let visibility = &method.vis;
        let told = format!("The activity `{name}`, as workflow code calls it and tests mock it.");
        let constant = quote! {
            #[doc = #told]
            #visibility const #upper: ::sync_workflow::context::ActivityType<#ident> =
                ::sync_workflow::context::ActivityType::new();
        };
        Ok(Self {
            ident,
            implementation,
            constant,
        })
    }
}

/// The type of the block, which must be one type of this module.
fn owner(block: &ItemImpl) -> Result<&Ident> {
    if let Some((path, _)) = &block.trait_ {
        let message = "the activities of a type are in an impl block of its own: `impl Mailer`";
        return Err(Error::new_spanned(path, message));
    }
    let message = "the type of activities is named plainly and not generic: the journal knows each by one name";
    let ident = match &*block.self_ty {
        Type::Path(path) if block.generics.params.is_empty() => path.path.get_ident(),
        _ => None,
    };
    ident.ok_or_else(|| Error::new_spanned(&block.self_ty, message))
}

/// The methods that are activities, whose attributes are taken away, with their options.
fn take_activities(block: &mut ItemImpl) -> Result<Vec<(ImplItemFn, Options)>> {
    let mut activities = Vec::new();
    for item in &mut block.items {
        if let ImplItem::Fn(method) = item
            && let Some(attribute) = take_attribute(method)
        {
            activities.push((method.clone(), attribute));
        }
    }
    let with_options = activities
        .into_iter()
        .map(|(method, attribute)| Ok((method, Options::of_method(&attribute)?)));
    with_options.collect()
}

fn take_attribute(method: &mut ImplItemFn) -> Option<Attribute> {
    let is_activity = |attribute: &Attribute| {
        let last = attribute.path().segments.last();
        last.is_some_and(|last| last.ident == "activity")
    };
    let index = method.attrs.iter().position(is_activity)?;
    Some(method.attrs.remove(index))
}

fn check_receiver(method: &ImplItemFn) -> Result<()> {
    let message = "an activity of a type takes `&self`: attempts of many runs share it";
    match method.sig.inputs.first() {
        Some(FnArg::Receiver(receiver))
            if matches!(receiver.kind, ReceiverKind::Reference(_, _, None)) =>
        {
            Ok(())
        }
        Some(FnArg::Receiver(receiver)) => Err(Error::new_spanned(receiver, message)),
        _ => Err(Error::new_spanned(&method.sig.ident, message)),
    }
}
