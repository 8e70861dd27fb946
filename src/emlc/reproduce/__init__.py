"""The paper's tables and figures by one command: experiments as data, and an engine that runs them."""
