"""Pictures of maps: surfel splatting, views, heat maps, boxes and PLY files."""
