"""Views of :class:`Illusions`: sheets, figures, animations, files."""
