"""Parents, masks, children and ensembles: trained, scored and recorded."""
