//! Letters as pens draw them: each a few strokes, so that pictures need no font file.
//!
//! A stroke is a run of points, two digits each: x from 0 to 4, y from 0 (top of capitals) over 6 (the line they stand on)
//! to 8. Strokes are separated by blanks.

/// A letter's strokes.
fn strokes(letter: char) -> &'static str {
    match letter {
        ' ' => "",
        'A' => "062046 1434",
        'B' => "00063645443303 3342413000",
        'C' => "4130100105163645",
        'D' => "00062644422000",
        'E' => "40000646 0333",
        'F' => "400006 0333",
        'G' => "41301001051636454323",
        'H' => "0006 4046 0343",
        'I' => "0020 1016 0626",
        'J' => "4045361605",
        'K' => "0006 4004 1346",
        'L' => "000646",
        'M' => "0600234046",
        'N' => "06004640",
        'O' | '0' => "100105163645413010",
        'P' => "06003041423303",
        'Q' => "100105163645413010 2446",
        'R' => "06003041423303 2346",
        'S' => "413010010213334445361605",
        'T' => "0040 2026",
        'U' => "000516364540",
        'V' => "002640",
        'W' => "0016223640",
        'X' => "0046 4006",
        'Y' => "002340 2326",
        'Z' => "00400646",
        '1' => "112026 1636",
        '2' => "01103041420646",
        '3' => "0110304142334445361605 2333",
        '4' => "36300444",
        '5' => "400003334445361605",
        '6' => "4130100105163645443303",
        '7' => "004016",
        '8' => "100102133342413010 1304051636454433",
        '9' => "0516364541301001021343",
        _ => small(letter),
    }
}

fn small(letter: char) -> &'static str {
    match letter {
        'a' => "3236 3322120305162635",
        'b' => "0006 0312223335261605",
        'c' => "3322120305162635",
        'd' => "3036 3322120305162635",
        'e' => "04343322120305162635",
        'f' => "30201116 0222",
        'g' => "3237281807 3322120305162635",
        'h' => "0006 0312223336",
        'i' => "0206 0000",
        'j' => "121708 1010",
        'k' => "0006 3205 1436",
        'l' => "0006",
        'm' => "0206 03122326 23324346",
        'n' => "0206 0312223336",
        'o' => "120305162635332212",
        'p' => "0208 0312223335261605",
        'q' => "3238 3322120305162635",
        'r' => "0206 041222",
        's' => "3212031424352606",
        't' => "10152636 0232",
        'u' => "0205162635 3236",
        'v' => "022642",
        'w' => "0216233642",
        'x' => "0236 3206",
        'y' => "0226 4218",
        'z' => "02320636",
        '\u{b5}' | '\u{3bc}' => "0208 0205162635 3236",
        '.' => "0606",
        ',' => "1608",
        ':' => "0303 0606",
        ';' => "1313 1608",
        '-' | '\u{2013}' => "0434",
        '_' => "0747",
        '/' => "0640",
        '(' | '[' => "10010516",
        ')' | ']' => "00111506",
        '%' => "0640 0011 3546",
        '+' => "0444 2226",
        '=' => "0343 0545",
        '<' => "420446",
        '>' => "024406",
        '\'' => "0001",
        '#' => "1016 3036 0242 0444",
        '?' => "01103041422324 2626",
        '!' => "0004 0606",
        _ => "0006464000", // a box
    }
}

/// The strokes of a line of text whose capitals are `size` high, the line beginning at 0 and standing on 0; and its width.
pub fn line(text: &str, size: f64) -> (Vec<Vec<[f64; 2]>>, f64) {
    let unit = size / 6.0;
    let (mut found, mut left) = (Vec::new(), 0.0);
    for letter in text.chars() {
        let mut width: f64 = if letter == ' ' { 1.5 } else { 0.0 };
        for stroke in strokes(letter).split_whitespace() {
            let digits: Vec<f64> = stroke.bytes().map(|b| f64::from(b.saturating_sub(b'0'))).collect();
            let points = digits.chunks_exact(2).filter_map(|pair| Some([*pair.first()?, *pair.get(1)?]));
            let points: Vec<[f64; 2]> = points.collect();
            width = points.iter().fold(width, |w, [x, _]| w.max(*x));
            found.push(points.into_iter().map(|[x, y]| [(left + x) * unit, (y - 6.0) * unit]).collect());
        }
        left += width + 1.7;
    }
    (found, (left - 1.7).max(0.0) * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_on_the_line_and_follow_each_other() {
        let (strokes, width) = line("IV", 6.0);
        assert_eq!(strokes[1], [[1.0, -6.0], [1.0, 0.0]]);
        assert_eq!(strokes[3], [[3.7, -6.0], [5.7, 0.0], [7.7, -6.0]]);
        assert!((width - 7.7).abs() < 1e-12);
        assert_eq!(line("", 3.0), (vec![], 0.0));
        let drawn = |c: char| line(&c.to_string(), 6.0).0;
        assert!((' '..='~').filter(|c| drawn(*c) == drawn('\u{7f}')).all(|c| "\"$&*@\\^`{|}~".contains(c)));
    }
}
