"""Language queries over encoded maps: scores, instances, boxes and stable ids."""
