"""Graph passes, one per file. Import as `qcompiler.passes`."""
