"""JavaScript expressions, in QuickJS and in processes of their own."""
