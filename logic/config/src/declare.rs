//! The two macros that make values out of tables.

/// Implements `Value` for types that are `Resolved`.
macro_rules! resolved {
    ($type:ty) => {
        impl $crate::value::Value for $type {
            fn shape() -> $crate::reference::Shape {
                <$type as $crate::value::Resolved>::Keys::shape()
            }

            fn expected() -> String {
                "a table".into()
            }

            fn read(
                node: &$crate::tree::Node,
                cx: &mut $crate::reader::Reader<'_, '_>,
            ) -> Option<Self> {
                let keys = $crate::value::Value::read(node, cx)?;
                $crate::value::Resolved::resolve(keys, node, cx)
            }

            fn show(&self) -> Option<$crate::shown::Shown> {
                $crate::value::Resolved::keys(self).show()
            }
        }
    };
}

/// Declares a table: a struct whose fields are its keys, with their documentation, their types and what
/// holds for them. From this one declaration come the parser, the schema, the reference and the writer.
macro_rules! section {
    (
        $(#[doc = $doc:literal])+
        $vis:vis struct $name:ident {
            $($(#[doc = $key_doc:literal])+ $key:ident: $type:ty => $rule:expr,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name {
            $($(#[doc = $key_doc])+ $vis $key: $type,)+
        }

        impl $crate::value::Value for $name {
            fn shape() -> $crate::reference::Shape {
                $crate::reference::Shape::Table($crate::reference::Section {
                    doc: $crate::reference::prose(&[$($doc),+]),
                    keys: vec![$(
                        $crate::reference::Key::new::<$type>(
                            stringify!($key),
                            &[$($key_doc),+],
                            $rule,
                        ),
                    )+],
                })
            }

            fn expected() -> String {
                "a table".into()
            }

            fn read(
                node: &$crate::tree::Node,
                cx: &mut $crate::reader::Reader<'_, '_>,
            ) -> Option<Self> {
                let table = cx.table(node, &[$(stringify!($key)),+])?;
                // Every key is read before the first fault ends it, so that no fault hides another.
                $(let $key = cx.key::<$type>(node, table, stringify!($key), $rule);)+
                Some(Self { $($key: $key?,)+ })
            }

            fn show(&self) -> Option<$crate::shown::Shown> {
                Some($crate::shown::Shown::Table(vec![$(
                    $crate::shown::ShownKey {
                        name: stringify!($key).into(),
                        value: $crate::value::Value::show(&self.$key),
                        absent: $crate::rule::meaning::<$type>(&$rule),
                    },
                )+]))
            }
        }
    };
}

pub(crate) use {resolved, section as declare};
