"""Networks by name, and weights from files and from torchvision: below the data, which some of them embed."""
