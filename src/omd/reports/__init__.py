"""What a person looks at: tables on the terminal, the HTML page, films of a policy."""
