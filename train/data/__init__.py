"""What the models see and say: rendered scenes, their language, folders of pictures, loading."""
