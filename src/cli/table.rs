//! Tables: aligned columns, shortened to a width where one is given.

use anstream::adapter::strip_str;

/// Columns between two cells.
const GAP: usize = 2;

/// A column is not made narrower than this, to stay recognizable.
const MIN_WIDTH: usize = 8;

/// The same of the last one: text says little in fewer characters.
const LAST_MIN_WIDTH: usize = 2 * MIN_WIDTH;

/// The first columns name what a row is about: they are shortened last, because people copy them.
const NAMES: usize = 2;

/// The lines of a table, whose first row is the head. Where it is wider than `width`, columns are left out: those without
/// any value, and those for which there is no room. Others end in `…`: the last one first, which holds free text, and then
/// the widest.
pub(super) fn layout(rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let column_width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| visible_width(cell)).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(column_width).collect();
    if let Some(width) = width.filter(|width| total(&widths) > *width) {
        let left_out = columns_to_leave_out(rows, &widths, width);
        if !left_out.is_empty() {
            let keep = |row: &Vec<String>| {
                let cells = row.iter().enumerate();
                let kept = cells.filter(|(column, _)| !left_out.contains(column));
                kept.map(|(_, cell)| cell.clone()).collect()
            };
            let rows: Vec<Vec<String>> = rows.iter().map(keep).collect();
            return layout(&rows, Some(width));
        }
        shrink(&mut widths, width);
    }
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let cell = shorten(cell, widths[column]);
            line.push_str(&cell);
            if column + 1 < row.len() {
                let pad = widths[column] - visible_width(&cell) + GAP;
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn total(widths: &[usize]) -> usize {
    widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
}

/// The lines of a table whose last column is a text to read whole: where that does not fit beside the others, it follows
/// each row in lines of its own, below an indentation.
pub(super) fn layout_with_texts(rows: &[Vec<String>], width: Option<usize>) -> Vec<String> {
    let lines = layout(rows, None);
    let Some(width) = width.filter(|width| lines.iter().any(|line| visible_width(line) > *width))
    else {
        return lines;
    };
    let split = |row: &Vec<String>| {
        let mut cells = row.clone();
        let text = cells.pop().unwrap_or_default();
        (cells, text)
    };
    let (heads, texts): (Vec<Vec<String>>, Vec<String>) = rows.iter().map(split).unzip();
    let heads = layout(&heads, Some(width));
    let rows = heads.into_iter().zip(&texts);
    rows.flat_map(|(head, text)| std::iter::once(head).chain(wrap(text, width)))
        .collect()
}

/// A line in lines of at most `width`, as far as its words allow that. The others are further in than the first.
pub(super) fn wrap_paragraph(text: &str, width: usize) -> Vec<String> {
    if visible_width(text) <= width {
        return vec![text.to_owned()];
    }
    let words = text.trim_start();
    let indent = " ".repeat(text.len() - words.len());
    wrap_words(words, width, &indent, &format!("{indent}    "))
}

/// The words of a text in indented lines of at most `width`.
fn wrap(text: &str, width: usize) -> Vec<String> {
    const INDENT: &str = "      ";
    wrap_words(text, width, INDENT, INDENT)
}

fn wrap_words(text: &str, width: usize, first: &str, others: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && visible_width(&line) + 1 + visible_width(word) > width {
            lines.push(std::mem::replace(&mut line, others.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    if !is_empty {
        lines.push(line);
    }
    lines
}

/// The columns without any value; if there are none, the ones before the last for which there is no room.
fn columns_to_leave_out(rows: &[Vec<String>], widths: &[usize], width: usize) -> Vec<usize> {
    let is_empty = |column: &usize| {
        let mut cells = rows.iter().skip(1).filter_map(|row| row.get(*column));
        *column >= NAMES && cells.all(|cell| ["", "-"].contains(&&**cell))
    };
    let empty: Vec<usize> = (0..widths.len()).filter(is_empty).collect();
    if !empty.is_empty() {
        return empty;
    }
    let mut columns: Vec<usize> = (0..widths.len()).collect();
    let least = |columns: &[usize]| {
        let last = columns.len() - 1;
        let least = columns
            .iter()
            .enumerate()
            .map(|(number, column)| match number {
                number if number < NAMES => widths[*column],
                number if number == last => widths[*column].min(LAST_MIN_WIDTH),
                _ => widths[*column].min(MIN_WIDTH),
            });
        total(&least.collect::<Vec<usize>>())
    };
    let mut left_out = Vec::new();
    while columns.len() > NAMES + 1 && least(&columns) > width {
        left_out.push(columns.remove(columns.len() - 2));
    }
    left_out
}

fn shrink(widths: &mut [usize], width: usize) {
    let narrow = |widths: &mut [usize], column: usize, least: usize| {
        let excess = total(widths).saturating_sub(width);
        let least = least.min(widths[column]);
        widths[column] = widths[column].saturating_sub(excess).max(least);
    };
    let Some(last) = widths.len().checked_sub(1) else {
        return;
    };
    narrow(widths, last, LAST_MIN_WIDTH);
    for columns in [NAMES..widths.len(), 0..widths.len()] {
        while total(widths) > width {
            let widest = columns.clone().max_by_key(|column| widths[*column]);
            match widest {
                Some(column) if widths[column] > MIN_WIDTH => widths[column] -= 1,
                _ => break,
            }
        }
    }
}

/// The cell, in at most `width` characters, with its colour.
fn shorten(cell: &str, width: usize) -> String {
    if visible_width(cell) <= width {
        return cell.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let mut shown = String::new();
    let mut is_cut = false;
    let mut rest = cell;
    while let Some(c) = rest.chars().next() {
        let sequence = escape_length(rest);
        let (text, after) = rest.split_at(sequence.unwrap_or(c.len_utf8()));
        rest = after;
        // A colour that begins or ends after the cut still has to end.
        if sequence.is_some() {
            shown.push_str(text);
        } else if room > 0 {
            shown.push_str(text);
            room -= 1;
        } else if !is_cut {
            shown.push('…');
            is_cut = true;
        }
    }
    shown
}

/// The length of the colour sequence at the start of a text.
fn escape_length(text: &str) -> Option<usize> {
    text.strip_prefix("\x1b[")?;
    text.find('m').map(|end| end + 1)
}

/// Width of a cell in characters, without colour sequences.
fn visible_width(cell: &str) -> usize {
    strip_str(cell).map(|text| text.chars().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        vec![
            row(["APP", "RELEASE", "STATE", "WHY"]),
            row([
                "shop",
                "20261121050000-4f2c9d0",
                "\x1b[31mfailed at build, quarantined\x1b[0m",
                "a step ended with 1: npm could not reach the registry",
            ]),
        ]
    }

    #[test]
    fn table_fits_the_terminal_and_is_complete_in_a_pipe() {
        let full = layout(&rows(), None);
        assert!(full[1].ends_with("reach the registry"), "{full:?}");
        for width in [40, 60, 80, 120] {
            let lines = layout(&rows(), Some(width));
            for line in &lines {
                assert!(visible_width(line) <= width, "{width}: {line}");
            }
            // Every colour ends.
            let colours = lines[1].matches("\x1b[").count();
            assert!(colours.is_multiple_of(2), "{lines:?}");
        }
        let lines = layout(&rows(), Some(80));
        assert_eq!(
            strip_str(&lines[1]).to_string(),
            "shop  20261121050000-4f2c9d0  failed at build, quarantined  a step ended with 1…"
        );
        assert_eq!(layout(&rows(), Some(500)), full);
    }

    #[test]
    fn columns_without_a_value_are_left_out_before_others_are_cut() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = [
            row(["APP", "RELEASE", "REF", "WHY"]),
            row(["shop", "20261121050000-4f2c9d0", "-", "orders fail"]),
        ];
        assert_eq!(
            layout(&rows, Some(41)),
            [
                "APP   RELEASE                 WHY",
                "shop  20261121050000-4f2c9d0  orders fail"
            ]
        );
        assert!(layout(&rows, Some(80))[0].contains("REF"));
    }

    #[test]
    fn text_to_read_follows_its_row_where_it_does_not_fit_beside() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row([
            "port",
            "8000",
            "The port of the app, below 1024 never.",
        ])];
        assert_eq!(
            layout_with_texts(&rows, Some(30)),
            [
                "port  8000",
                "      The port of the app,",
                "      below 1024 never."
            ]
        );
        assert_eq!(layout_with_texts(&rows, Some(80)), layout(&rows, None));
        assert_eq!(layout_with_texts(&rows, None), layout(&rows, None));
    }

    #[test]
    fn paragraph_breaks_between_words_and_goes_on_further_in() {
        assert_eq!(
            wrap_paragraph("  shop on web1, web2, web3", 16),
            ["  shop on web1,", "      web2, web3"]
        );
        let name = "n".repeat(30);
        assert_eq!(
            wrap_paragraph(&format!("a {name} b"), 16),
            ["a".to_owned(), format!("    {name}"), "    b".to_owned()]
        );
        assert_eq!(wrap_paragraph("  fits  as it is", 16), ["  fits  as it is"]);
    }

    #[test]
    fn table_that_fits_stays_as_it_is() {
        let rows = vec![vec!["a".to_owned(), "b".to_owned()]];
        assert_eq!(layout(&rows, Some(4)), ["a  b"]);
        assert_eq!(layout(&[], Some(4)), Vec::<String>::new());
    }
}
