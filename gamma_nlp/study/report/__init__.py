"""What a study found, as text, Markdown, CSV, LaTeX and one page of HTML."""
