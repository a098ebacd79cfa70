"""What a model recognises: asked through views, compared with what it says of any picture."""
