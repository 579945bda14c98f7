//! Names and places for generated records, from many scripts.

pub(crate) const FIRST: &[&str] = &[
    "Ana",
    "Åsa",
    "Björn",
    "Chloé",
    "Çağla",
    "Dai",
    "Élodie",
    "Frida",
    "Giorgos",
    "Hana",
    "Ingrid",
    "João",
    "José",
    "Katarína",
    "Łukasz",
    "Miyu",
    "Ngozi",
    "Nuño",
    "Øyvind",
    "Paula",
    "Quentin",
    "Renée",
    "Søren",
    "Tomás",
    "Uma",
    "Vít",
    "Wanjiru",
    "Xiomara",
    "Yusuf",
    "Zoë",
    "李娜",
    "さくら",
    "Мария",
    "Γιάννης",
    "نور",
    "Siân",
    "D'Arcy",
    "Mary Jane",
    "Oluwaseun",
    "Thu Trang",
];

pub(crate) const LAST: &[&str] = &[
    "Abara",
    "Bergström",
    "Castaño",
    "Dvořák",
    "Eğilmez",
    "Fernández",
    "García",
    "Hämäläinen",
    "Iñárritu",
    "Jørgensen",
    "Kowalski",
    "Lefèvre",
    "Müller",
    "Nowak",
    "O'Connor",
    "Pérez",
    "Quispe",
    "Rossi",
    "Śliwa",
    "Tanaka",
    "Ueda",
    "Vázquez",
    "Weiß",
    "Xu",
    "Yılmaz",
    "Zieliński",
    "王",
    "佐藤",
    "Иванова",
    "Παππάς",
    "van der Berg",
    "Smith-Jones",
    "smith",
    "Smith",
    "de la Cruz",
    "\u{1F600}-Emoji",
    "N\u{0303}andu",
];

pub(crate) const CITIES: &[(&str, &str)] = &[
    ("Albuquerque", "NM"),
    ("Boise", "ID"),
    ("Cañon City", "CO"),
    ("Duluth", "MN"),
    ("Española", "NM"),
    ("Fresno", "CA"),
    ("La Cañada", "CA"),
    ("Mobile", "AL"),
    ("Portland", "OR"),
    ("St. Paul", "MN"),
];

pub(crate) const STREETS: &[&str] = &[
    "Elm Street",
    "Calle Ocho",
    "King's Road",
    "Peña Boulevard",
    "Main St",
    "Oak \"Old\" Lane",
    "Rue Saint-Étienne",
    "Sycamore Avenue",
];

pub(crate) const MEMBERSHIPS: &[&str] = &["Member", "Visitor", "Regular Attender", "In-Active"];

pub(crate) const GROUPS: &[&str] = &[
    "Alpha",
    "Bible Study",
    "Choir",
    "Dads & Daughters",
    "Élan",
    "First Steps",
    "Grief Share",
    "Jóvenes",
    "Prayer",
    "Young Adults",
];

pub(crate) const CAMPUSES: &[&str] = &[
    "Central",
    "North",
    "South",
    "East",
    "West",
    "Riverside",
    "Hillside",
    "Español",
    "Online",
    "Université",
];

/// Lower case without accents, as the server compares and sorts names.
pub(crate) fn fold(text: &str) -> String {
    text.chars()
        .filter(|c| !('\u{0300}'..='\u{036f}').contains(c))
        .flat_map(char::to_lowercase)
        .map(plain)
        .collect()
}

fn plain(c: char) -> char {
    match c {
        'à'..='å' | 'ā' | 'ă' | 'ą' => 'a',
        'ç' | 'ć' | 'č' => 'c',
        'ď' | 'đ' => 'd',
        'è'..='ë' | 'ē' | 'ę' | 'ě' => 'e',
        'ğ' => 'g',
        'ì'..='ï' | 'ı' => 'i',
        'ł' => 'l',
        'ñ' | 'ń' | 'ň' => 'n',
        'ò'..='ö' | 'ø' => 'o',
        'ř' => 'r',
        'ś' | 'š' | 'ş' => 's',
        'ť' => 't',
        'ù'..='ü' | 'ů' => 'u',
        'ý' | 'ÿ' => 'y',
        'ź' | 'ż' | 'ž' => 'z',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn case_and_accents_do_not_count() {
        assert_eq!(fold("ÉLODIE"), fold("elodie"));
        assert_eq!(fold("N\u{0303}andu"), fold("Ñandu"));
    }
}
