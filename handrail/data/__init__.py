"""What people have, as clean text or as chats: the one reader of data files."""
